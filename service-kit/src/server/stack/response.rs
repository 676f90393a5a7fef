//! The response of a unary call, encoded at once and counted until its peer has taken it: what a handler returns would otherwise
//! wait in memory, uncounted, for a peer that takes nothing.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::Response;
use http_body::Frame;
use http_body_util::BodyExt;
use tonic::{Status, body::Body};

use super::quota::{Held, Quota};

/// A whole response.
#[derive(Debug)]
struct Whole {
    frames: VecDeque<Frame<Bytes>>,
    _held: Held,
}

/// Marks a response that is whole: all that remains is that the peer takes it.
#[derive(Debug, Clone, Copy)]
pub(super) struct IsWhole;

/// Encodes a response.
///
/// # Errors
/// What encoding fails with, or the quota is used up.
pub(super) async fn encode(response: Response<Body>, quota: &Quota) -> Result<Response<Body>, Status> {
    let (mut parts, mut body) = response.into_parts();
    let (mut frames, mut held, mut bytes) = (VecDeque::new(), quota.hold(), 0);
    while let Some(frame) = body.frame().await {
        let frame = frame?;
        bytes += frame.data_ref().map_or(0, Bytes::len);
        held.grow_to(bytes)?;
        frames.push_back(frame);
    }
    parts.extensions.insert(IsWhole);
    Ok(Response::from_parts(parts, Body::new(Whole { frames, _held: held })))
}

impl http_body::Body for Whole {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Poll::Ready(self.frames.pop_front().map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_empty()
    }
}
