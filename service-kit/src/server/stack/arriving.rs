//! The messages of a client's stream as they arrive: one that has begun must be complete in time, and its bytes count
//! against a quota until it is. It is passed on only when it is complete: the decoder takes as much memory as a message
//! announces; a large one, only when it is its turn.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::{Status, body::Body};

use super::{
    deadline, large,
    message::{PREFIX_BYTES, announced},
    quota::{Held, Quota},
    shares::Quotas,
};
use crate::time_share::TimeShare;

/// The body of a request that is a stream of messages.
pub(super) struct Arriving {
    inner: Body,
    quota: Quota,
    work: TimeShare,
    timeout: Duration,
    /// The message that has begun.
    partial: Option<Partial>,
    /// What has arrived of it.
    waiting: VecDeque<Frame<Bytes>>,
    /// The large messages among those that are ready, until it is their turn.
    large: Vec<Partial>,
    turn: Option<BoxFuture<'static, ()>>,
    /// What can be passed on.
    ready: VecDeque<Frame<Bytes>>,
    has_ended: bool,
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
    pub(super) fn new(inner: Body, quotas: &Quotas, timeout: Duration) -> Self {
        Self {
            inner,
            quota: quotas.requests.clone(),
            work: quotas.work.clone(),
            timeout,
            partial: None,
            waiting: VecDeque::new(),
            large: Vec::new(),
            turn: None,
            ready: VecDeque::new(),
            has_ended: false,
        }
    }

    /// Follows the boundaries of messages through more bytes; returns where the last message that ends in them ends, 0 if none
    /// does.
    fn follow(&mut self, all: &[u8]) -> Result<usize, Status> {
        let (mut bytes, mut boundary) = (all, 0);
        while !bytes.is_empty() {
            let (quota, timeout) = (&self.quota, self.timeout);
            let partial = self.partial.get_or_insert_with(|| Partial::new(quota, timeout));
            bytes = partial.take(bytes);
            if partial.is_complete() {
                self.large
                    .extend(self.partial.take().filter(|message| large::is_large(&message.prefix, message.arrived)));
                boundary = all.len() - bytes.len();
            }
        }
        if let Some(partial) = &mut self.partial {
            partial.held.grow_to(partial.arrived)?;
        }
        Ok(boundary)
    }

    /// Takes a frame, which is ready as far as messages in it are complete.
    fn take(&mut self, frame: Frame<Bytes>) -> Result<(), Status> {
        match frame.into_data() {
            Ok(mut data) => {
                let boundary = self.follow(&data)?;
                if boundary > 0 {
                    self.ready.append(&mut self.waiting);
                    self.ready.push_back(Frame::data(data.split_to(boundary)));
                }
                if !data.is_empty() {
                    self.waiting.push_back(Frame::data(data));
                }
            }
            Err(frame) => self.end_with(Some(frame)),
        }
        Ok(())
    }

    /// Waits for the turn of the large messages that are ready; their bytes count until then.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.large.is_empty() {
            let bytes = self.large.iter().map(|message| message.arrived).sum();
            let turn = self.turn.get_or_insert_with(|| large::turn(&self.work, bytes));
            ready!(turn.as_mut().poll(cx));
            (self.turn, self.large) = (None, Vec::new());
        }
        Poll::Ready(())
    }

    /// Passes on what is left: the decoder reports a message that is not complete.
    fn end_with(&mut self, last: Option<Frame<Bytes>>) {
        self.has_ended = last.is_none();
        self.ready.append(&mut self.waiting);
        self.ready.extend(last);
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
        loop {
            ready!(self.poll_turn(cx));
            if let Some(frame) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(frame)));
            }
            if self.has_ended {
                return Poll::Ready(None);
            }
            match Pin::new(&mut self.inner).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    if let Err(status) = self.take(frame) {
                        return Poll::Ready(Some(Err(status)));
                    }
                }
                Poll::Ready(Some(Err(status))) => return Poll::Ready(Some(Err(status))),
                Poll::Ready(None) => self.end_with(None),
                Poll::Pending => {
                    let Some(partial) = &mut self.partial else { return Poll::Pending };
                    ready!(partial.alarm.as_mut().poll(cx));
                    self.partial = None;
                    return Poll::Ready(Some(Err(deadline::exceeded().into())));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ready.is_empty() && self.waiting.is_empty() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use http_body_util::{BodyExt, Full};
    use proptest::prelude::*;

    use super::{
        super::{super::settings::Settings, shares::Shares},
        *,
    };

    #[tokio::test(start_paused = true)]
    async fn large_and_compressed_messages_wait_for_their_turn_and_small_ones_do_not() {
        let quotas = Shares::new(&Settings::default()).all();
        let arriving = |flag: u8, length: usize| {
            let message = [&[flag][..], &(length as u32).to_be_bytes(), &vec![7; length]].concat();
            Arriving::new(Body::new(Full::new(message.into())), &quotas, Duration::from_secs(10))
        };
        let (small, large) = (large::SMALL_BYTES, large::SMALL_BYTES + 1);
        assert!(arriving(0, large).frame().now_or_never().is_some());
        quotas.work.turn(Duration::from_hours(1)).await;
        assert!(arriving(0, small).frame().now_or_never().is_some());
        for (flag, length) in [(0, large), (1, 1)] {
            let (mut waiting, began) = (arriving(flag, length), Instant::now());
            assert!(waiting.frame().now_or_never().is_none());
            // Longer than the time in which a message must be complete.
            let frame = waiting.frame().await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap().len(), PREFIX_BYTES + length);
            assert!(length == 1 || began.elapsed() > Duration::from_secs(10));
        }
    }

    proptest! {
        /// However the bytes are cut, a message is partial until its last byte.
        #[test]
        fn boundaries_are_found_in_any_cut(
            lengths in prop::collection::vec(0..40usize, 1..8),
            cuts in prop::collection::vec(1..20usize, 1..20),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let _entered = runtime.enter();
            let mut body = Arriving::new(Body::empty(), &Shares::new(&Settings::default()).all(), Duration::from_secs(10));
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
