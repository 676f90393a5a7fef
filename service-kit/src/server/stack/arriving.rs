//! The messages of a client's stream as they arrive: one that has begun must be complete in time, and its bytes count
//! against a quota until it is.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::{Status, body::Body};

use super::{
    deadline,
    message::{PREFIX_BYTES, announced},
    quota::{Held, Quota},
};

/// The body of a request that is a stream of messages.
#[derive(Debug)]
pub(super) struct Arriving {
    inner: Body,
    quota: Quota,
    timeout: Duration,
    /// The message that has begun.
    partial: Option<Partial>,
}

#[derive(Debug)]
struct Partial {
    prefix: Vec<u8>,
    /// The bytes of its content that have arrived.
    arrived: usize,
    held: Held,
    alarm: Pin<Box<Sleep>>,
}

impl Arriving {
    /// Bounds the messages of a body: each is complete within `timeout` after its first byte.
    pub(super) fn new(inner: Body, quota: &Quota, timeout: Duration) -> Self {
        Self { inner, quota: quota.clone(), timeout, partial: None }
    }

    /// Follows the boundaries of messages through more bytes.
    fn follow(&mut self, mut bytes: &[u8]) -> Result<(), Status> {
        while !bytes.is_empty() {
            let (quota, timeout) = (&self.quota, self.timeout);
            let partial = self.partial.get_or_insert_with(|| Partial::new(quota, timeout));
            bytes = partial.take(bytes);
            if partial.is_complete() {
                self.partial = None;
            }
        }
        match &mut self.partial {
            Some(partial) => Ok(partial.held.grow_to(partial.arrived)?),
            None => Ok(()),
        }
    }
}

impl Partial {
    fn new(quota: &Quota, timeout: Duration) -> Self {
        let alarm = Box::pin(sleep_until(Instant::now() + timeout));
        Self { prefix: Vec::with_capacity(PREFIX_BYTES), arrived: 0, held: quota.hold(), alarm }
    }

    /// Takes the bytes that belong to the message; returns the rest.
    fn take<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let (of_prefix, rest) = bytes.split_at(bytes.len().min(PREFIX_BYTES - self.prefix.len()));
        self.prefix.extend_from_slice(of_prefix);
        let (content, rest) = rest.split_at(rest.len().min(self.length() - self.arrived));
        self.arrived += content.len();
        rest
    }

    /// Returns the announced length, 0 before it is known.
    fn length(&self) -> usize {
        announced(&self.prefix)
    }

    fn is_complete(&self) -> bool {
        self.prefix.len() == PREFIX_BYTES && self.arrived == self.length()
    }
}

impl http_body::Body for Arriving {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let followed = frame.data_ref().map_or(Ok(()), |data| self.follow(data));
                Poll::Ready(Some(followed.map(|()| frame)))
            }
            Poll::Pending => {
                let Some(partial) = &mut self.partial else { return Poll::Pending };
                ready!(partial.alarm.as_mut().poll(cx));
                self.partial = None;
                Poll::Ready(Some(Err(deadline::exceeded().into())))
            }
            end @ Poll::Ready(_) => end,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// However the bytes are cut, a message is partial until its last byte.
        #[test]
        fn boundaries_are_found_in_any_cut(
            lengths in prop::collection::vec(0..40usize, 1..8),
            cuts in prop::collection::vec(1..20usize, 1..20),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let _entered = runtime.enter();
            let mut body = Arriving::new(Body::empty(), &Quota::new(1_000, "bytes"), Duration::from_secs(10));
            let (mut bytes, mut ends) = (Vec::new(), Vec::new());
            for length in lengths {
                bytes.push(0);
                bytes.extend((length as u32).to_be_bytes());
                bytes.extend(vec![7; length]);
                ends.push(bytes.len());
            }
            let (mut at, mut cuts) = (0, cuts.into_iter().cycle());
            while at < bytes.len() {
                let next = (at + cuts.next().unwrap_or(1)).min(bytes.len());
                body.follow(&bytes[at..next]).unwrap();
                at = next;
                prop_assert_eq!(body.partial.is_none(), ends.contains(&at), "at {} of {:?}", at, ends);
            }
        }
    }
}
