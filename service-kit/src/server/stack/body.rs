//! The body of a response: ends it at the caller's deadline, turns panics and errors of libraries into typed trailers, and
//! writes the log line of the call when the trailers pass.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::{Status, body::Body};

use crate::failure::Failure;

use super::{cause, deadline, log::CallLog, quota::Taken, status};

type Polled = Poll<Option<Result<Frame<Bytes>, Status>>>;

/// What ends a stream whose handler goes on although the token has ended.
pub(super) type Overrun = BoxFuture<'static, Failure>;

/// The bounds of the body of a response.
pub(super) struct Bounds {
    /// The deadline of the caller, of a stream.
    pub(super) due: Option<Instant>,
    pub(super) overrun: Option<Overrun>,
    /// The place of a stream, which it holds until its end.
    pub(super) _stream: Option<Taken>,
}

/// Wraps the body that the handler returned.
pub(super) struct CallBody {
    inner: Body,
    log: CallLog,
    bounds: Bounds,
    // Set when the body first has to wait.
    alarm: Option<Pin<Box<Sleep>>>,
    // Often noted one frame before the trailers: frames encoded before the failure are sent first.
    noted: Option<String>,
    ended: bool,
}

impl CallBody {
    pub(super) fn new(inner: Body, log: CallLog, bounds: Bounds) -> Self {
        Self { inner, log, bounds, alarm: None, noted: None, ended: false }
    }

    /// Polls the handler's body inside the call's span. A panic counts as an error.
    fn poll_inner(&mut self, cx: &mut Context<'_>) -> Polled {
        let Self { inner, log, .. } = self;
        let poll = || catch_unwind(AssertUnwindSafe(|| Pin::new(inner).poll_frame(cx)));
        let (polled, noted) = log.within(|| cause::listening(poll));
        if noted.is_some() {
            self.noted = noted;
        }
        polled.unwrap_or_else(|panic| Poll::Ready(Some(Err(status::panicked(&*panic).into()))))
    }

    /// Is ready at the caller's deadline, and when the token of a stream has ended long ago.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Failure> {
        if let Some(due) = self.bounds.due
            && self.alarm.get_or_insert_with(|| Box::pin(sleep_until(due))).as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(deadline::exceeded());
        }
        self.bounds.overrun.as_mut().map_or(Poll::Pending, |overrun| overrun.as_mut().poll(cx))
    }

    /// Ends the body with this status and drops the rest of the handler's response.
    fn fail(&mut self, status: Status) -> Polled {
        let status = status::normalise(status);
        self.log.failed(&status, self.noted.take());
        self.ended = true;
        // Drops the handler's side now: it may hold a database connection, and after a panic it must not be polled.
        self.inner = Body::empty();
        let mut trailers = HeaderMap::new();
        match status.add_header(&mut trailers) {
            Ok(()) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            Err(unsendable) => Poll::Ready(Some(Err(unsendable))),
        }
    }
}

impl http_body::Body for CallBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        match this.poll_inner(cx) {
            Poll::Pending => {
                let failure = ready!(this.poll_end(cx));
                this.fail(failure.into())
            }
            Poll::Ready(Some(Err(status))) => this.fail(status),
            Poll::Ready(Some(Ok(frame))) => match frame.trailers_ref().map(status::of_trailers) {
                Some(Some(status)) => this.fail(status),
                Some(None) => {
                    this.log.succeeded();
                    this.ended = true;
                    Poll::Ready(Some(Ok(frame)))
                }
                None => Poll::Ready(Some(Ok(frame))),
            },
            Poll::Ready(None) => {
                this.log.succeeded();
                this.ended = true;
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
