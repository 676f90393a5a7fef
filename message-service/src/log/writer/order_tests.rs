//! The order of each sender's sends, over random locks, halvings, failures and expiries of a writer and its lane.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use proptest::prelude::*;
use time::OffsetDateTime;

use super::{
    batch::Batch,
    given_up::GivenUp,
    halves::{Attempted, Halves},
    lane::{Lane, Retry},
    work::{
        Sender, Stamps, Work, WriteError,
        samples::{self, Answer, change, message, now},
        sender_of,
    },
};
use crate::{
    domain::{
        change::{Outcome, SendOutcome},
        message::{NewMessage, StoredAt},
        sequence::Sequence,
    },
    storage::{Error, append::BatchOutcome},
};

const SECOND: Duration = Duration::from_secs(1);

/// The next event of a run.
#[derive(Debug, Clone, Copy)]
enum Step {
    SecondPasses,
    Halve,
    GiveBack,
    FailInDoubt,
    /// An append that finds some conversations locked.
    Append {
        locked: [bool; 2],
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => Just(Step::SecondPasses),
        3 => Just(Step::Halve),
        2 => Just(Step::GiveBack),
        1 => Just(Step::FailInDoubt),
        4 => any::<[bool; 2]>().prop_map(|locked| Step::Append { locked }),
    ];
    prop::collection::vec(step, 0..40)
}

/// The conversation, the sender and the seconds until the deadline of each send.
fn sends() -> impl Strategy<Value = Vec<(usize, u8, u64)>> {
    prop::collection::vec((0..2usize, 0..2u8, 1..5u64), 1..30)
}

fn unreachable_database() -> WriteError {
    WriteError::NotStored(Arc::new(Error::Timeout { limit: SECOND }))
}

/// A writer with its lane, and a database that follows the steps.
struct Play {
    now: Instant,
    steps: VecDeque<Step>,
    given_up: GivenUp,
    lane: Lane,
    /// The numbers of the stored sends, in order.
    stored: HashMap<Sender, Vec<usize>>,
}

impl Play {
    fn new(steps: Vec<Step>, stamps: &Stamps) -> Self {
        let given_up = GivenUp::new(stamps);
        let lane = Lane::new(&given_up);
        Self { now: now(), steps: steps.into(), given_up, lane, stored: HashMap::new() }
    }

    /// Stores what waits, some at a time, and what is locked.
    fn run(&mut self, mut arriving: VecDeque<Work>, at_a_time: usize) {
        while !arriving.is_empty() {
            let mut waiting: VecDeque<Work> = arriving.drain(..at_a_time.min(arriving.len())).collect();
            while !waiting.is_empty() {
                self.given_up.refuse(&mut waiting, self.now);
                self.lane.divert(&mut waiting, self.now);
                let locked = self.store(Batch::gather(&mut waiting));
                self.lane.take(locked, self.now);
            }
            self.run_lane();
        }
        while !self.lane.waiting().is_empty() {
            self.run_lane();
        }
    }

    fn run_lane(&mut self) {
        for id in self.lane.waiting() {
            let Some(Retry { batch, behind }) = self.lane.begin(&id, self.now) else { continue };
            let is_run = !batch.is_empty();
            let locked = self.store(batch);
            self.lane.end(&id, locked, behind, is_run, self.now);
        }
    }

    fn store(&mut self, batch: Batch) -> Vec<Work> {
        let mut halves = Halves::of(batch);
        while let Some(part) = halves.next() {
            let attempted = self.attempt(part);
            halves.note(attempted);
        }
        halves.given_back()
    }

    fn attempt(&mut self, mut part: Batch) -> Attempted {
        loop {
            part.expire(self.now, &unreachable_database(), &self.given_up);
            match self.steps.pop_front().unwrap_or(Step::Append { locked: [false; 2] }) {
                _ if part.is_empty() => return Attempted::Answered(Vec::new()),
                Step::SecondPasses => self.now += SECOND,
                Step::Halve if part.len() > 1 => return Attempted::Halve(part),
                Step::Halve | Step::GiveBack => return Attempted::Answered(part.give_back()),
                Step::FailInDoubt => {
                    part.mark_in_doubt(&Arc::new(Error::Timeout { limit: SECOND }));
                    part.fail(
                        &WriteError::NotStored(Arc::new(Error::Corrupt(String::new()))),
                        &self.given_up,
                        self.now,
                    );
                    return Attempted::Answered(Vec::new());
                }
                Step::Append { locked } => {
                    let appended = self.append(&part, locked);
                    return Attempted::Answered(part.answer(&appended));
                }
            }
        }
    }

    fn append(&mut self, part: &Batch, locked: [bool; 2]) -> BatchOutcome {
        let mut outcomes = Vec::new();
        for send in part.sends() {
            if locked[send.conversation_id.parse::<usize>().unwrap()] {
                outcomes.push(SendOutcome { outcome: Outcome::Locked, stored: None });
            } else {
                self.stored.entry(sender_of(send)).or_default().push(send.request_id.parse().unwrap());
                let stored = StoredAt { sequence: Sequence::FIRST, ordinal: 1, created_at: OffsetDateTime::UNIX_EPOCH };
                outcomes.push(SendOutcome { outcome: Outcome::Done, stored: Some(stored) });
            }
        }
        BatchOutcome { sends: outcomes, changes: Vec::new(), heads: HashMap::new() }
    }
}

fn work(
    number: usize,
    (conversation, sender, seconds): (usize, u8, u64),
    stamps: &Stamps,
) -> (Work, Answer<SendOutcome>) {
    let (mut waiter, answer) = samples::waiter(now() + SECOND * u32::try_from(seconds).unwrap());
    waiter.stamp = stamps.take();
    let send = NewMessage {
        conversation_id: conversation.to_string().as_str().into(),
        sender_id: sender.to_string().as_str().into(),
        ..message(&number.to_string(), "x")
    };
    (Work::Send(send, waiter), answer)
}

proptest! {
    /// Of the sends that a sender has queued together, the first are stored in order, and all others fail: when they are
    /// repeated in order, the whole is in order.
    #[test]
    fn no_send_overtakes_one_that_is_locked_or_given_up(sends in sends(), steps in steps(), at_a_time in 1..30usize) {
        let stamps = Stamps::default();
        let mut queued: HashMap<Sender, Vec<usize>> = HashMap::new();
        let (mut works, mut answers) = (VecDeque::new(), Vec::new());
        for (number, send) in sends.into_iter().enumerate() {
            let (work, answer) = work(number, send, &stamps);
            queued.entry(work.sender().unwrap()).or_default().push(number);
            works.push_back(work);
            answers.push(answer);
        }
        let mut play = Play::new(steps, &stamps);
        play.run(works, at_a_time);
        for (sender, stored) in &play.stored {
            prop_assert!(queued[sender].starts_with(stored), "{stored:?} of {:?} are stored", queued[sender]);
        }
        let answers = answers.iter_mut().map(|answer| answer.try_recv().expect("an answer"));
        let done = answers.flatten().count();
        prop_assert_eq!(done, play.stored.values().map(Vec::len).sum::<usize>());
    }
}

/// A conversation that was found locked stays in the lane when its callers have given up, for those that come again.
#[test]
fn a_locked_conversation_stays_in_the_lane_for_a_while() {
    let stamps = Stamps::default();
    let mut play = Play::new(vec![Step::GiveBack], &stamps);
    let (first, mut answer) = work(0, (0, 0, 1), &stamps);
    let locked = play.store(Batch::gather(&mut VecDeque::from([first])));
    play.lane.take(locked, play.now);
    play.now += 2 * SECOND;
    play.run_lane();
    assert!(matches!(answer.try_recv().unwrap(), Err(WriteError::Busy)));
    let diverted = |play: &Play| {
        let mut waiting = VecDeque::from([work(1, (0, 0, 100), &stamps).0]);
        play.lane.divert(&mut waiting, play.now);
        waiting.is_empty()
    };
    assert!(diverted(&play), "the next caller must not wait for the lock beside others");
    play.run_lane();
    assert!(!diverted(&play), "a conversation that was stored to is free");
}

#[test]
fn a_change_is_never_held_back() {
    let stamps = Stamps::default();
    let mut halves = Halves::of(Batch::gather(&mut VecDeque::from([
        work(0, (0, 0, 9), &stamps).0,
        work(1, (0, 0, 9), &stamps).0,
        Work::Change(change("t"), samples::waiter(now()).0),
    ])));
    let whole = halves.next().unwrap();
    halves.note(Attempted::Halve(whole));
    let first = halves.next().unwrap();
    halves.note(Attempted::Answered(first.give_back()));
    let second = halves.next().unwrap();
    assert_eq!((second.sends().len(), second.changes().len()), (0, 1));
    halves.note(Attempted::Answered(second.give_back()));
    assert_eq!(halves.given_back().len(), 3);
}
