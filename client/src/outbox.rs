//! What a session has yet to be answered: in order, over all connections. Pure.

use std::{collections::VecDeque, time::Instant};

use parlance::message::v1::{ChatRequest, chat_request::Frame};

/// One frame and who waits for its answer.
#[derive(Debug)]
pub(crate) struct Pending<W> {
    pub(crate) frame: Frame,
    pub(crate) waiter: W,
    /// After this nobody waits any more.
    pub(crate) deadline: Instant,
    /// Under which id it is on its way, if it is.
    frame_id: Option<u64>,
    /// It was on its way once: it may be stored.
    pub(crate) was_sent: bool,
}

/// Frames in the order in which they were asked for.
#[derive(Debug)]
pub(crate) struct Outbox<W> {
    pending: VecDeque<Pending<W>>,
    next_frame_id: u64,
    on_their_way: usize,
    window: usize,
}

impl<W> Outbox<W> {
    /// At most `window` frames are on their way at a time.
    pub(crate) fn new(window: usize) -> Self {
        Self { pending: VecDeque::new(), next_frame_id: 1, on_their_way: 0, window }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.pending.len()
    }

    pub(crate) fn push(&mut self, frame: Frame, waiter: W, deadline: Instant) {
        self.pending.push_back(Pending { frame, waiter, deadline, frame_id: None, was_sent: false });
    }

    /// An id for a frame that is nobody's to wait for.
    pub(crate) fn frame_id(&mut self) -> u64 {
        self.next_frame_id += 1;
        self.next_frame_id - 1
    }

    /// The connection is gone: all of it goes again, in its order.
    pub(crate) fn disconnected(&mut self) {
        self.on_their_way = 0;
        for pending in &mut self.pending {
            pending.frame_id = None;
        }
    }

    /// The next frame that may go. After one that must go again nothing goes before everything on its way is answered, so
    /// that it overtakes as little as can be.
    pub(crate) fn next(&mut self) -> Option<ChatRequest> {
        if self.on_their_way >= self.window {
            return None;
        }
        let at = self.pending.iter().position(|pending| pending.frame_id.is_none())?;
        // Something later is on its way: this one came back.
        if self.pending.iter().skip(at).any(|pending| pending.frame_id.is_some()) {
            return None;
        }
        let frame_id = self.next_frame_id;
        self.next_frame_id += 1;
        self.on_their_way += 1;
        let pending = self.pending.get_mut(at)?;
        pending.frame_id = Some(frame_id);
        pending.was_sent = true;
        Some(ChatRequest { frame_id, frame: Some(pending.frame.clone()) })
    }

    /// A frame is answered for good; gives who waits for that.
    pub(crate) fn answered(&mut self, frame_id: u64) -> Option<Pending<W>> {
        let at = self.pending.iter().position(|pending| pending.frame_id == Some(frame_id))?;
        self.on_their_way -= 1;
        self.pending.remove(at)
    }

    /// A frame must go again.
    pub(crate) fn again(&mut self, frame_id: u64) {
        if let Some(pending) = self.pending.iter_mut().find(|pending| pending.frame_id == Some(frame_id)) {
            pending.frame_id = None;
            self.on_their_way -= 1;
        }
    }

    /// Takes out what nobody waits for any more.
    pub(crate) fn expired(&mut self, now: Instant) -> Vec<Pending<W>> {
        let (expired, pending): (Vec<_>, Vec<_>) = self.pending.drain(..).partition(|pending| pending.deadline <= now);
        self.pending = pending.into();
        self.on_their_way = self.pending.iter().filter(|pending| pending.frame_id.is_some()).count();
        expired
    }

    /// When the first of them is to be taken out.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.pending.iter().map(|pending| pending.deadline).min()
    }

    /// Takes everything out.
    pub(crate) fn take(&mut self) -> Vec<Pending<W>> {
        self.on_their_way = 0;
        self.pending.drain(..).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use parlance::message::v1::SendMessageRequest;
    use proptest::prelude::*;

    use super::*;

    fn frame(n: usize) -> Frame {
        Frame::Send(SendMessageRequest { request_id: n.to_string(), ..SendMessageRequest::default() })
    }

    #[derive(Debug, Clone)]
    enum Step {
        Push,
        Send,
        Answer(usize),
        Again(usize),
        Disconnect,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            Just(Step::Push),
            Just(Step::Send),
            (0..5usize).prop_map(Step::Answer),
            (0..5usize).prop_map(Step::Again),
            Just(Step::Disconnect),
        ];
        prop::collection::vec(step, 1..120)
    }

    proptest! {
        /// Whatever happens, what is on its way is bounded and in order, and everything is answered once.
        #[test]
        fn frames_go_in_order_until_they_are_answered(steps in steps()) {
            let later = Instant::now() + Duration::from_mins(1);
            let mut outbox = Outbox::new(3);
            let (mut pushed, mut on_their_way, mut answered) = (0, Vec::new(), Vec::new());
            for step in steps.into_iter().chain(std::iter::repeat_n([Step::Send, Step::Answer(0)], 200).flatten()) {
                match step {
                    Step::Push => {
                        outbox.push(frame(pushed), pushed, later);
                        pushed += 1;
                    }
                    Step::Send => if let Some(request) = outbox.next() {
                        let Some(Frame::Send(send)) = request.frame else { unreachable!() };
                        let n: usize = send.request_id.parse().unwrap();
                        prop_assert!(on_their_way.iter().all(|(_, before)| *before < n), "{n} after {on_their_way:?}");
                        on_their_way.push((request.frame_id, n));
                        prop_assert!(on_their_way.len() <= 3);
                    },
                    Step::Answer(at) => if at < on_their_way.len() {
                        let (frame_id, n) = on_their_way.remove(at);
                        prop_assert_eq!(outbox.answered(frame_id).map(|pending| pending.waiter), Some(n));
                        prop_assert!(outbox.answered(frame_id).is_none());
                        answered.push(n);
                    },
                    Step::Again(at) => if at < on_their_way.len() {
                        let (frame_id, _) = on_their_way.remove(at);
                        outbox.again(frame_id);
                    },
                    Step::Disconnect => {
                        on_their_way.clear();
                        outbox.disconnected();
                    }
                }
            }
            answered.sort_unstable();
            prop_assert_eq!(answered, (0..pushed).collect::<Vec<_>>());
            prop_assert!(outbox.is_empty());
        }
    }

    #[test]
    fn what_nobody_waits_for_is_taken_out() {
        let now = Instant::now();
        let mut outbox = Outbox::new(9);
        outbox.push(frame(1), 1, now + Duration::from_secs(1));
        outbox.push(frame(2), 2, now + Duration::from_secs(9));
        assert!(outbox.next().is_some());
        assert_eq!(outbox.next_deadline(), Some(now + Duration::from_secs(1)));
        let expired = outbox.expired(now + Duration::from_secs(1));
        assert!(expired.len() == 1 && expired[0].waiter == 1 && expired[0].was_sent);
        assert_eq!((outbox.len(), outbox.on_their_way), (1, 0));
    }
}
