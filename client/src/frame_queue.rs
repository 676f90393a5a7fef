//! The frames of a session that have no answer yet: in order, over all connections. Pure.

use std::{collections::VecDeque, time::Instant};

use parlance::message::v1::{ChatRequest, chat_request::Frame};

/// A frame without an answer.
#[derive(Debug)]
pub(crate) struct Pending<A> {
    pub(crate) frame: Frame,
    /// The receiver of the answer.
    pub(crate) answer: A,
    /// The time at which the frame expires.
    pub(crate) deadline: Instant,
    /// The id under which it is in flight; `None` if it is not.
    frame_id: Option<u64>,
    /// True once it was sent, so that it may have been executed.
    pub(crate) was_sent: bool,
}

/// Frames in the order of submission.
#[derive(Debug)]
pub(crate) struct FrameQueue<A> {
    pending: VecDeque<Pending<A>>,
    next_frame_id: u64,
    in_flight: usize,
    window: usize,
}

impl<A> FrameQueue<A> {
    /// Creates a queue with at most `window` frames in flight at a time.
    pub(crate) fn new(window: usize) -> Self {
        Self { pending: VecDeque::new(), next_frame_id: 1, in_flight: 0, window }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.pending.len()
    }

    pub(crate) fn push(&mut self, frame: Frame, answer: A, deadline: Instant) {
        self.pending.push_back(Pending { frame, answer, deadline, frame_id: None, was_sent: false });
    }

    /// Returns an id for a frame outside the queue, such as `open`.
    pub(crate) fn next_frame_id(&mut self) -> u64 {
        self.next_frame_id += 1;
        self.next_frame_id - 1
    }

    /// Marks all frames to be sent again, in their order, after the connection was lost.
    pub(crate) fn requeue_all(&mut self) {
        self.in_flight = 0;
        for pending in &mut self.pending {
            pending.frame_id = None;
        }
    }

    /// Returns the next frame to send. While a frame waits to be sent again, later frames in flight must be answered first,
    /// so that as few frames as possible overtake it.
    pub(crate) fn next_to_send(&mut self) -> Option<ChatRequest> {
        if self.in_flight >= self.window {
            return None;
        }
        let at = self.pending.iter().position(|pending| pending.frame_id.is_none())?;
        // A later frame is in flight, so this one was requeued.
        if self.pending.iter().skip(at).any(|pending| pending.frame_id.is_some()) {
            return None;
        }
        let frame_id = self.next_frame_id();
        self.in_flight += 1;
        let pending = self.pending.get_mut(at)?;
        pending.frame_id = Some(frame_id);
        pending.was_sent = true;
        Some(ChatRequest { frame_id, frame: Some(pending.frame.clone()) })
    }

    /// Removes a frame that has its final answer, and returns it.
    pub(crate) fn complete(&mut self, frame_id: u64) -> Option<Pending<A>> {
        let at = self.pending.iter().position(|pending| pending.frame_id == Some(frame_id))?;
        self.in_flight -= 1;
        self.pending.remove(at)
    }

    /// Marks a frame to be sent again.
    pub(crate) fn requeue(&mut self, frame_id: u64) {
        if let Some(pending) = self.pending.iter_mut().find(|pending| pending.frame_id == Some(frame_id)) {
            pending.frame_id = None;
            self.in_flight -= 1;
        }
    }

    /// Removes and returns the frames whose deadline has passed.
    pub(crate) fn take_expired(&mut self, now: Instant) -> Vec<Pending<A>> {
        let (expired, pending): (Vec<_>, Vec<_>) = self.pending.drain(..).partition(|pending| pending.deadline <= now);
        self.pending = pending.into();
        self.in_flight = self.pending.iter().filter(|pending| pending.frame_id.is_some()).count();
        expired
    }

    /// Returns the earliest deadline.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.pending.iter().map(|pending| pending.deadline).min()
    }

    /// Removes and returns all frames.
    pub(crate) fn take_all(&mut self) -> Vec<Pending<A>> {
        self.in_flight = 0;
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
        Complete(usize),
        Requeue(usize),
        Disconnect,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            Just(Step::Push),
            Just(Step::Send),
            (0..5usize).prop_map(Step::Complete),
            (0..5usize).prop_map(Step::Requeue),
            Just(Step::Disconnect),
        ];
        prop::collection::vec(step, 1..120)
    }

    proptest! {
        /// Frames in flight are bounded and in order, and every frame is answered once.
        #[test]
        fn frames_are_sent_in_order_until_they_are_answered(steps in steps()) {
            let later = Instant::now() + Duration::from_mins(1);
            let mut queue = FrameQueue::new(3);
            let (mut pushed, mut in_flight, mut answered) = (0, Vec::new(), Vec::new());
            for step in steps.into_iter().chain(std::iter::repeat_n([Step::Send, Step::Complete(0)], 200).flatten()) {
                match step {
                    Step::Push => {
                        queue.push(frame(pushed), pushed, later);
                        pushed += 1;
                    }
                    Step::Send => if let Some(request) = queue.next_to_send() {
                        let Some(Frame::Send(send)) = request.frame else { unreachable!() };
                        let n: usize = send.request_id.parse().unwrap();
                        prop_assert!(in_flight.iter().all(|(_, before)| *before < n), "{n} after {in_flight:?}");
                        in_flight.push((request.frame_id, n));
                        prop_assert!(in_flight.len() <= 3);
                    },
                    Step::Complete(at) => if at < in_flight.len() {
                        let (frame_id, n) = in_flight.remove(at);
                        prop_assert_eq!(queue.complete(frame_id).map(|pending| pending.answer), Some(n));
                        prop_assert!(queue.complete(frame_id).is_none());
                        answered.push(n);
                    },
                    Step::Requeue(at) => if at < in_flight.len() {
                        let (frame_id, _) = in_flight.remove(at);
                        queue.requeue(frame_id);
                    },
                    Step::Disconnect => {
                        in_flight.clear();
                        queue.requeue_all();
                    }
                }
            }
            answered.sort_unstable();
            prop_assert_eq!(answered, (0..pushed).collect::<Vec<_>>());
            prop_assert!(queue.is_empty());
        }
    }

    #[test]
    fn expired_frames_are_removed() {
        let now = Instant::now();
        let mut queue = FrameQueue::new(9);
        queue.push(frame(1), 1, now + Duration::from_secs(1));
        queue.push(frame(2), 2, now + Duration::from_secs(9));
        assert!(queue.next_to_send().is_some());
        assert_eq!(queue.next_deadline(), Some(now + Duration::from_secs(1)));
        let expired = queue.take_expired(now + Duration::from_secs(1));
        assert!(expired.len() == 1 && expired[0].answer == 1 && expired[0].was_sent);
        assert_eq!((queue.len(), queue.in_flight), (1, 0));
    }
}
