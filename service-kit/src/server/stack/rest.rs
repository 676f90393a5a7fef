//! Reads the rest of a request before its early refusal is sent.
//!
//! A server that has answered a request before its end resets the stream, as HTTP/2 allows. Some proxies, such as Envoy, then
//! pass on the reset alone, and the caller never sees the reason of the refusal. Most of these requests end a moment later.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::timeout;
use tonic::body::Body;

use crate::sync::lock;

/// The most bytes that are read and thrown away.
const MAX_BYTES: usize = 64 * 1024;

/// The most time that a refusal waits: a client that streams may not end its request at all.
const MAX_WAIT: Duration = Duration::from_millis(250);

/// The part of a request that the layers and the handler have left unread.
#[derive(Debug, Clone, Default)]
pub(super) struct Rest(Arc<Mutex<Option<Incoming>>>);

impl Rest {
    /// Wraps the body of a request, whose rest is kept when it is dropped.
    pub(super) fn keep(&self, body: Incoming) -> Body {
        Body::new(Kept { inner: Some(body), rest: self.clone() })
    }

    /// Reads what was left, within bounds.
    pub(super) async fn read(&self) {
        let Some(mut body) = self.slot().take() else { return };
        let reading = async {
            let mut left = MAX_BYTES;
            while let Some(Ok(frame)) = body.frame().await {
                let Some(rest) = left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) else { return };
                left = rest;
            }
        };
        // Beyond the bounds the stream is reset.
        let _ = timeout(MAX_WAIT, reading).await;
    }

    fn slot(&self) -> MutexGuard<'_, Option<Incoming>> {
        lock(&self.0)
    }
}

/// The body of a request.
#[derive(Debug)]
struct Kept {
    /// `None` after its end.
    inner: Option<Incoming>,
    rest: Rest,
}

impl Drop for Kept {
    fn drop(&mut self) {
        let unread = self.inner.take().filter(|body| !body.is_end_stream());
        *self.rest.slot() = unread;
    }
}

impl http_body::Body for Kept {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(inner) = &mut self.inner else { return Poll::Ready(None) };
        let polled = Pin::new(inner).poll_frame(cx);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.inner = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), http_body::Body::size_hint)
    }
}
