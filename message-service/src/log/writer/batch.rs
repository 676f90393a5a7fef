//! A batch: the sends and changes of one transaction, and the waiters of each.

use std::{
    collections::{HashMap, HashSet, VecDeque, hash_map::Entry},
    sync::Arc,
    time::Instant,
};

use tracing::Span;

use super::{
    given_up::{GivenUp, Known},
    work::{Sender, Waiter, Work, WriteError, sender_of},
};
use crate::{
    domain::{
        change::{Change, Outcome, SendOutcome},
        ids::{ConversationId, UserId},
        message::NewMessage,
    },
    planted,
    storage::{Error, append::BatchOutcome},
};

/// The most sends and changes of one transaction.
const MAX_ITEMS: usize = 512;

/// The most text of one transaction, in bytes; a first item is always taken.
const MAX_BYTES: usize = 256 * 1024;

/// A send and its waiters: equal sends of one batch are one row with several waiters.
#[derive(Debug)]
struct WaitingSend {
    send: NewMessage,
    first: Waiter<SendOutcome>,
    repeats: Vec<Waiter<SendOutcome>>,
}

#[derive(Debug)]
struct WaitingChange {
    change: Change,
    waiter: Waiter<Outcome>,
}

/// Sends and changes of one transaction. Sends are numbered first.
#[derive(Debug, Default)]
pub(super) struct Batch {
    sends: Vec<WaitingSend>,
    changes: Vec<WaitingChange>,
}

/// A batch that is being gathered.
#[derive(Debug, Default)]
struct Gathering {
    batch: Batch,
    bytes: usize,
    /// The place of each send in the batch.
    known: HashMap<(ConversationId, UserId, String), usize>,
}

impl Gathering {
    fn has_room(&self) -> bool {
        self.batch.len() < MAX_ITEMS && self.bytes < MAX_BYTES
    }

    /// Adds a write; returns a send that cannot be in the same batch.
    fn add(&mut self, work: Work) -> Result<(), Work> {
        match work {
            Work::Send(send, waiter) => self.add_send(send, waiter),
            Work::Change(change, waiter) => {
                self.bytes += change.bytes();
                self.batch.changes.push(WaitingChange { change, waiter });
                Ok(())
            }
        }
    }

    fn add_send(&mut self, send: NewMessage, waiter: Waiter<SendOutcome>) -> Result<(), Work> {
        let sends = &mut self.batch.sends;
        let key = (send.conversation_id.clone(), send.sender_id.clone(), send.request_id.clone());
        match self.known.entry(key) {
            Entry::Vacant(vacant) => {
                vacant.insert(sends.len());
                self.bytes += send.bytes();
                sends.push(WaitingSend { send, first: waiter, repeats: Vec::new() });
            }
            Entry::Occupied(same) if sends[*same.get()].send.request_hash == send.request_hash => {
                sends[*same.get()].repeats.push(waiter);
            }
            Entry::Occupied(_) => return Err(Work::Send(send, waiter)),
        }
        Ok(())
    }
}

impl Batch {
    /// Takes as many waiting writes from the front as fit. Leaves behind a send whose `request_id` is in the batch already
    /// with other content, and all after it.
    pub(super) fn gather(waiting: &mut VecDeque<Work>) -> Self {
        let mut gathering = Gathering::default();
        while gathering.has_room()
            && let Some(work) = waiting.pop_front()
        {
            if let Err(send) = gathering.add(work) {
                waiting.push_front(send);
                break;
            }
        }
        planted::batch_order(&mut gathering.batch.sends);
        gathering.batch
    }

    pub(super) fn len(&self) -> usize {
        self.sends.len() + self.changes.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn sends(&self) -> Vec<&NewMessage> {
        self.sends.iter().map(|waiting| &waiting.send).collect()
    }

    pub(super) fn changes(&self) -> Vec<&Change> {
        self.changes.iter().map(|waiting| &waiting.change).collect()
    }

    /// Returns the spans of the waiting calls, if traces are on.
    pub(super) fn spans(&self) -> impl Iterator<Item = &Span> {
        let of_sends = self.sends.iter().flat_map(|waiting| std::iter::once(&waiting.first).chain(&waiting.repeats));
        let spans = of_sends.map(|waiter| &waiter.span);
        spans.chain(self.changes.iter().map(|waiting| &waiting.waiter.span))
    }

    /// Returns two halves, to find the item that the database refuses.
    pub(super) fn split(mut self) -> (Self, Self) {
        let sends = self.sends.split_off(self.sends.len().div_ceil(2));
        // One send or none cannot be halved: halve the changes.
        let at = if sends.is_empty() && self.sends.is_empty() { self.changes.len().div_ceil(2) } else { 0 };
        let changes = self.changes.split_off(at);
        (self, Self { sends, changes })
    }

    /// Marks all writes as possibly stored, after a run that ended without an answer.
    pub(super) fn mark_in_doubt(&mut self, error: &Arc<Error>) {
        for waiting in &mut self.sends {
            for waiter in std::iter::once(&mut waiting.first).chain(&mut waiting.repeats) {
                waiter.in_doubt = Some(error.clone());
            }
        }
        for waiting in &mut self.changes {
            waiting.waiter.in_doubt = Some(error.clone());
        }
    }

    /// Removes and returns the sends of these senders, in order.
    pub(super) fn take_sends_of(&mut self, senders: &HashSet<Sender>) -> Vec<Work> {
        let mut taken = Vec::new();
        if !senders.is_empty() {
            let is_of_them = |waiting: &mut WaitingSend| senders.contains(&sender_of(&waiting.send));
            self.sends.extract_if(.., is_of_them).for_each(|waiting| waiting.give_back(&mut taken));
        }
        taken
    }

    /// Answers the writes whose deadlines have passed with `error`, or with an unknown outcome if they are in doubt, and the
    /// sends behind one that was given up; keeps the others.
    pub(super) fn expire(&mut self, now: Instant, error: &WriteError, given_up: &GivenUp) {
        let mut known = given_up.lock();
        for waiting in std::mem::take(&mut self.sends) {
            let Some(waiting) = waiting.unless_behind(&known) else { continue };
            if waiting.is_overdue(now) {
                given_up.give_up(&mut known, sender_of(&waiting.send), waiting.first.stamp, error, now);
                waiting.answer(&Err(error.clone()));
            } else {
                self.sends.push(waiting);
            }
        }
        drop(known);
        for waiting in std::mem::take(&mut self.changes) {
            if waiting.waiter.deadline > now {
                self.changes.push(waiting);
            } else {
                waiting.waiter.answer(Err(error.clone()));
            }
        }
    }

    /// Answers all writes with `error`, or with an unknown outcome if they are in doubt.
    pub(super) fn fail(self, error: &WriteError, given_up: &GivenUp, now: Instant) {
        let mut known = given_up.lock();
        for waiting in self.sends {
            if error.is_retryable() || waiting.is_in_doubt() {
                given_up.give_up(&mut known, sender_of(&waiting.send), waiting.first.stamp, error, now);
            }
            waiting.answer(&Err(error.clone()));
        }
        drop(known);
        for waiting in self.changes {
            waiting.waiter.answer(Err(error.clone()));
        }
    }

    /// Answers each write with its outcome; returns the locked ones, in order.
    pub(super) fn answer(self, appended: &BatchOutcome) -> Vec<Work> {
        let mut locked = Vec::new();
        for (waiting, sent) in self.sends.into_iter().zip(&appended.sends) {
            if sent.outcome == Outcome::Locked {
                waiting.give_back(&mut locked);
            } else {
                waiting.answer(&Ok(*sent));
            }
        }
        for (waiting, outcome) in self.changes.into_iter().zip(&appended.changes) {
            if *outcome == Outcome::Locked {
                locked.push(Work::Change(waiting.change, waiting.waiter));
            } else {
                waiting.answer(*outcome);
            }
        }
        locked
    }

    /// Returns the outcome of a batch that was stored, for a planted bug.
    #[cfg(feature = "planted-bugs")]
    pub(super) fn pretend_stored(&self) -> BatchOutcome {
        let stored = crate::domain::message::StoredAt {
            sequence: crate::domain::sequence::Sequence::FIRST,
            ordinal: 1,
            created_at: time::OffsetDateTime::UNIX_EPOCH,
        };
        let sent = SendOutcome { outcome: Outcome::Done, stored: Some(stored) };
        BatchOutcome {
            sends: vec![sent; self.sends.len()],
            changes: vec![Outcome::Done; self.changes.len()],
            heads: HashMap::new(),
        }
    }

    /// Returns all writes, in order.
    pub(super) fn give_back(self) -> Vec<Work> {
        let mut works = Vec::with_capacity(self.len());
        self.sends.into_iter().for_each(|waiting| waiting.give_back(&mut works));
        works.extend(self.changes.into_iter().map(|waiting| Work::Change(waiting.change, waiting.waiter)));
        works
    }
}

impl WaitingChange {
    /// Answers with the outcome. A refusal of a change in doubt may be the effect of its own earlier run.
    fn answer(self, outcome: Outcome) {
        let is_refusal = !matches!(outcome, Outcome::Done | Outcome::Unchanged);
        let answer = match &self.waiter.in_doubt {
            Some(_) if is_refusal && self.change.is_done_by(outcome) => Ok(Outcome::Done),
            Some(error) if is_refusal => Err(WriteError::OutcomeUnknown(error.clone())),
            _ => Ok(outcome),
        };
        self.waiter.answer(answer);
    }
}

impl WaitingSend {
    fn waiters(&self) -> impl Iterator<Item = &Waiter<SendOutcome>> {
        std::iter::once(&self.first).chain(&self.repeats)
    }

    fn is_overdue(&self, now: Instant) -> bool {
        self.waiters().all(|waiter| waiter.deadline <= now)
    }

    fn is_in_doubt(&self) -> bool {
        self.waiters().any(|waiter| waiter.in_doubt.is_some())
    }

    /// Answers the waiters that are behind a send that was given up; returns the send for the others, if any.
    fn unless_behind(self, known: &Known) -> Option<Self> {
        if known.is_empty() {
            return Some(self);
        }
        let sender = sender_of(&self.send);
        let mut live = Vec::new();
        for waiter in std::iter::once(self.first).chain(self.repeats) {
            match known.error_of(&sender, waiter.stamp) {
                Some(error) => waiter.answer(Err(error)),
                None => live.push(waiter),
            }
        }
        let mut live = live.into_iter();
        live.next().map(|first| Self { send: self.send, first, repeats: live.collect() })
    }

    fn answer(self, answer: &Result<SendOutcome, WriteError>) {
        self.first.answer(answer.clone());
        for repeat in self.repeats {
            repeat.answer(answer.clone().map(|sent| match sent.outcome {
                Outcome::Done => SendOutcome { outcome: Outcome::Unchanged, ..sent },
                _ => sent,
            }));
        }
    }

    fn give_back(self, works: &mut Vec<Work>) {
        let sends = std::iter::repeat_n(self.send, 1 + self.repeats.len());
        works.extend(
            std::iter::once(self.first).chain(self.repeats).zip(sends).map(|(waiter, send)| Work::Send(send, waiter)),
        );
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use time::OffsetDateTime;

    use super::*;
    use crate::{
        domain::{
            change::{ChangeKind, conversation::UpdateConversation, member::RemoveMember},
            message::StoredAt,
            sequence::Sequence,
        },
        log::writer::work::samples::{self, Answer, change, message, now},
    };

    /// A write as a test describes it.
    #[derive(Debug, Clone, PartialEq)]
    enum Sample {
        Send { conversation: u8, sender: u8, request: u8, bytes: usize },
        Change { conversation: u8, bytes: usize },
    }

    fn samples(max_bytes: usize) -> impl Strategy<Value = Vec<Sample>> {
        // Few sizes, so that some sends are equal.
        let bytes = (0..3usize).prop_map(move |size| size * max_bytes / 2);
        let send = (0..3u8, 0..3u8, 0..30u8, bytes.clone())
            .prop_map(|(conversation, sender, request, bytes)| Sample::Send { conversation, sender, request, bytes });
        let change = (0..3u8, bytes).prop_map(|(conversation, bytes)| Sample::Change { conversation, bytes });
        prop::collection::vec(prop_oneof![4 => send, 1 => change], 0..700)
    }

    fn work(sample: &Sample, deadline: Instant) -> Work {
        match sample {
            Sample::Send { conversation, sender, request, bytes } => {
                let send = NewMessage {
                    conversation_id: conversation.to_string().as_str().into(),
                    sender_id: sender.to_string().as_str().into(),
                    ..message(&request.to_string(), &"x".repeat(*bytes))
                };
                Work::Send(send, samples::waiter(deadline).0)
            }
            Sample::Change { conversation, bytes } => {
                let conversation_id = conversation.to_string().as_str().into();
                Work::Change(Change { conversation_id, ..change(&"x".repeat(*bytes)) }, samples::waiter(deadline).0)
            }
        }
    }

    fn works(samples: &[Sample]) -> VecDeque<Work> {
        let deadline = now();
        samples.iter().map(|sample| work(sample, deadline)).collect()
    }

    fn sample(work: &Work) -> Sample {
        match work {
            Work::Send(send, _) => Sample::Send {
                conversation: send.conversation_id.parse().unwrap(),
                sender: send.sender_id.parse().unwrap(),
                request: send.request_id.parse().unwrap(),
                bytes: send.text.len(),
            },
            Work::Change(change, _) => {
                let ChangeKind::UpdateConversation(UpdateConversation { title, .. }) = &change.kind else {
                    panic!("{change:?}")
                };
                Sample::Change {
                    conversation: change.conversation_id.parse().unwrap(),
                    bytes: title.as_ref().map_or(0, String::len),
                }
            }
        }
    }

    /// The writes of a batch or a queue, in order. Repeats come right after their first send.
    fn in_order(works: impl IntoIterator<Item = Work>) -> Vec<Sample> {
        works.into_iter().map(|work| sample(&work)).collect()
    }

    /// Those that must keep their order: the sends of one sender in one conversation, each once, and all changes.
    fn lanes(samples: &[Sample]) -> HashMap<Option<(u8, u8)>, Vec<Sample>> {
        let mut lanes: HashMap<_, Vec<Sample>> = HashMap::new();
        for sample in samples {
            let lane = match sample {
                Sample::Send { conversation, sender, .. } => Some((*conversation, *sender)),
                Sample::Change { .. } => None,
            };
            let lane = lanes.entry(lane).or_default();
            if lane.iter().all(|other| other != sample) || matches!(sample, Sample::Change { .. }) {
                lane.push(sample.clone());
            }
        }
        lanes
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// A batch is a front of the queue: nothing is lost, the order of each sender in each conversation stays, and the
        /// bounds hold but for a first item.
        #[test]
        fn gather_takes_a_front_of_the_queue_within_bounds(samples in samples(1_500), is_one_large in any::<bool>()) {
            let mut samples = samples;
            if is_one_large {
                samples.insert(0, Sample::Send { conversation: 0, sender: 0, request: 99, bytes: 2 * MAX_BYTES });
            }
            let mut waiting = works(&samples);
            let batch = Batch::gather(&mut waiting);
            prop_assert_eq!(batch.is_empty(), samples.is_empty());
            let bytes: Vec<usize> = batch.sends().iter().map(|send| send.bytes())
                .chain(batch.changes().iter().map(|change| change.bytes())).collect();
            let largest = bytes.iter().max().copied().unwrap_or_default();
            prop_assert!(batch.len() <= MAX_ITEMS && bytes.iter().sum::<usize>() < MAX_BYTES + largest.max(1));
            prop_assert!(!is_one_large || batch.len() == 1);
            let (taken, left) = (in_order(batch.give_back()), in_order(waiting));
            prop_assert_eq!(taken.len() + left.len(), samples.len());
            prop_assert_eq!(&samples[taken.len()..], &left[..]);
            prop_assert_eq!(lanes(&samples[..taken.len()]), lanes(&taken));
        }

        /// Two halves are the batch, in order, and each is smaller.
        #[test]
        fn split_loses_nothing_and_keeps_the_order(samples in samples(10)) {
            let whole = in_order(Batch::gather(&mut works(&samples)).give_back());
            let batch = Batch::gather(&mut works(&samples));
            let len = batch.len();
            let (first, second) = batch.split();
            prop_assert_eq!(first.len() + second.len(), len);
            prop_assert!(len < 2 || (!first.is_empty() && !second.is_empty()));
            let halves = in_order(first.give_back().into_iter().chain(second.give_back()));
            prop_assert_eq!(lanes(&halves), lanes(&whole));
            prop_assert_eq!(halves.len(), whole.len());
        }
    }

    fn send<R>(request_id: &str, text: &str, waiter: (Waiter<SendOutcome>, R)) -> (Work, R) {
        (Work::Send(message(request_id, text), waiter.0), waiter.1)
    }

    fn gather(works: impl IntoIterator<Item = Work>) -> Batch {
        let mut waiting = works.into_iter().collect();
        let batch = Batch::gather(&mut waiting);
        assert!(waiting.is_empty(), "{} are left", waiting.len());
        batch
    }

    fn stored(number: i64, outcome: Outcome) -> SendOutcome {
        let sequence = Sequence::new(number).unwrap();
        let stored = StoredAt { sequence, ordinal: number, created_at: OffsetDateTime::UNIX_EPOCH };
        SendOutcome { outcome, stored: Some(stored) }
    }

    fn refused(outcome: Outcome) -> SendOutcome {
        SendOutcome { outcome, stored: None }
    }

    fn appended(sends: Vec<SendOutcome>, changes: Vec<Outcome>) -> BatchOutcome {
        BatchOutcome { sends, changes, heads: HashMap::new() }
    }

    fn answer_of<R>(answer: &mut Answer<R>) -> Result<R, WriteError> {
        answer.try_recv().expect("an answer")
    }

    fn lost() -> Arc<Error> {
        Arc::new(Error::Timeout { limit: Duration::from_secs(1) })
    }

    #[test]
    fn equal_sends_are_one_row_with_two_waiters() {
        let now = now();
        let (one, mut first) = send("r", "x", samples::waiter(now));
        let (two, mut second) = send("r", "x", samples::waiter(now));
        let batch = gather([one, two]);
        assert_eq!((batch.sends().len(), batch.spans().count()), (1, 2));
        assert!(batch.answer(&appended(vec![stored(7, Outcome::Done)], Vec::new())).is_empty());
        assert_eq!(answer_of(&mut first).unwrap(), stored(7, Outcome::Done));
        assert_eq!(answer_of(&mut second).unwrap(), stored(7, Outcome::Unchanged));
    }

    #[test]
    fn a_reused_request_id_with_other_content_waits_for_the_next_batch() {
        let now = now();
        let works = [("r", "x"), ("r", "y"), ("s", "z")].map(|(id, text)| send(id, text, samples::waiter(now)).0);
        let mut waiting = VecDeque::from(works);
        assert_eq!(Batch::gather(&mut waiting).len(), 1);
        assert_eq!(Batch::gather(&mut waiting).sends().iter().map(|send| &*send.text).collect::<Vec<_>>(), ["y", "z"]);
    }

    #[test]
    fn expire_answers_exactly_the_overdue_writes() {
        let now = now();
        let later = now + Duration::from_secs(1);
        let (overdue, mut overdue_answer) = send("a", "x", samples::waiter(now));
        let (current, mut current_answer) = send("b", "x", samples::waiter(later));
        // A send stays for as long as one of its waiters has time.
        let (first, mut first_answer) = send("c", "x", samples::waiter(now));
        let (repeat, mut repeat_answer) = send("c", "x", samples::waiter(later));
        let (waiter, mut change_answer) = samples::waiter(now);
        let mut batch = gather([overdue, current, first, repeat, Work::Change(change("t"), waiter)]);
        batch.expire(now, &WriteError::Busy, &GivenUp::default());
        assert_eq!(batch.sends().iter().map(|send| &*send.request_id).collect::<Vec<_>>(), ["b", "c"]);
        assert!(batch.changes().is_empty());
        assert!(matches!(answer_of(&mut overdue_answer), Err(WriteError::Busy)));
        assert!(matches!(answer_of(&mut change_answer), Err(WriteError::Busy)));
        for pending in [&mut current_answer, &mut first_answer, &mut repeat_answer] {
            assert!(pending.try_recv().is_err());
        }
    }

    #[test]
    fn each_waiter_gets_its_own_outcome_and_locked_writes_are_returned_in_order() {
        let now = now();
        let sends: Vec<_> = ["a", "b", "c", "d"].map(|id| send(id, "x", samples::waiter(now))).into();
        let (works, mut answers): (Vec<_>, Vec<_>) = sends.into_iter().unzip();
        let changes: Vec<_> = ["t", "u"].map(|title| (change(title), samples::waiter(now))).into();
        let (changes, mut change_answers): (Vec<_>, Vec<_>) =
            changes.into_iter().map(|(change, (waiter, answer))| (Work::Change(change, waiter), answer)).unzip();
        let batch = gather(works.into_iter().chain(changes));
        let sends = vec![
            stored(1, Outcome::Done),
            refused(Outcome::Locked),
            refused(Outcome::NotAMember),
            refused(Outcome::Locked),
        ];
        let locked = batch.answer(&appended(sends, vec![Outcome::Locked, Outcome::Done]));
        let locked: Vec<_> = locked
            .iter()
            .map(|work| match work {
                Work::Send(send, _) => &*send.request_id,
                Work::Change(..) => "change",
            })
            .collect();
        assert_eq!(locked, ["b", "d", "change"]);
        assert_eq!(answer_of(&mut answers[0]).unwrap(), stored(1, Outcome::Done));
        assert_eq!(answer_of(&mut answers[2]).unwrap(), refused(Outcome::NotAMember));
        assert_eq!(answer_of(&mut change_answers[1]).unwrap(), Outcome::Done);
    }

    #[test]
    fn a_failure_of_a_write_in_doubt_is_an_unknown_outcome() {
        let now = now();
        let failures: [fn(Batch, Instant); 3] = [
            |batch, now| {
                batch.fail(&WriteError::NotStored(Arc::new(Error::Corrupt(String::new()))), &GivenUp::default(), now);
            },
            |mut batch, now| batch.expire(now, &WriteError::Busy, &GivenUp::default()),
            |batch, _| drop(batch.answer(&appended(Vec::new(), vec![Outcome::NotAMember]))),
        ];
        for fail in failures {
            let (waiter, mut answer) = samples::waiter(now);
            let mut batch = gather([Work::Change(change("t"), waiter)]);
            batch.mark_in_doubt(&lost());
            fail(batch, now);
            let answer = answer_of(&mut answer);
            assert!(
                matches!(&answer, Err(WriteError::OutcomeUnknown(error)) if matches!(**error, Error::Timeout { .. }))
            );
        }
    }

    #[test]
    fn a_removal_in_doubt_that_finds_no_member_is_done() {
        let (waiter, mut answer) = samples::waiter(now());
        let kind = ChangeKind::RemoveMember(RemoveMember { user_id: "ben".into() });
        let mut batch = gather([Work::Change(Change { kind, ..change("") }, waiter)]);
        batch.mark_in_doubt(&lost());
        assert!(batch.answer(&appended(Vec::new(), vec![Outcome::MemberNotFound])).is_empty());
        assert_eq!(answer_of(&mut answer).unwrap(), Outcome::Done);
    }

    #[test]
    fn an_outcome_after_doubt_is_the_outcome() {
        let (work, mut answer) = send("r", "x", samples::waiter(now()));
        let mut batch = gather([work]);
        batch.mark_in_doubt(&lost());
        assert!(batch.answer(&appended(vec![stored(3, Outcome::Unchanged)], Vec::new())).is_empty());
        assert_eq!(answer_of(&mut answer).unwrap(), stored(3, Outcome::Unchanged));
    }
}
