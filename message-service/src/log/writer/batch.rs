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

    /// Returns the conversations that this batch has written to, of those in the outcome, or may have written to in an earlier
    /// run.
    pub(super) fn written(&self, appended: &BatchOutcome) -> HashSet<&ConversationId> {
        let sends = self.sends.iter().zip(&appended.sends);
        let sends = sends.filter(|(waiting, sent)| sent.outcome == Outcome::Done || waiting.is_in_doubt());
        let changes = self
            .changes
            .iter()
            .zip(&appended.changes)
            .filter(|(waiting, outcome)| **outcome == Outcome::Done || waiting.waiter.in_doubt.is_some());
        let sends = sends.map(|(waiting, _)| &waiting.send.conversation_id);
        sends.chain(changes.map(|(waiting, _)| &waiting.change.conversation_id)).collect()
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
mod tests;
