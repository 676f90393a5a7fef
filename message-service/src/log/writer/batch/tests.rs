//! Gathering, splitting, expiry and answers of batches.

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
        assert!(matches!(&answer, Err(WriteError::OutcomeUnknown(error)) if matches!(**error, Error::Timeout { .. })));
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
