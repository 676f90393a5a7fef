//! What one transaction stores: sends and changes that were waiting, and who waits for each.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    sync::Arc,
    time::Instant,
};

use tracing::Span;

use super::writer::{Waiter, Work, WriteError};
use crate::{
    domain::{
        change::{Change, Outcome, SendOutcome},
        ids::{ConversationId, UserId},
        message::NewMessage,
    },
    planted::{self, Bug},
    storage::{Error, append::BatchOutcome},
};

/// The most sends and changes of one transaction.
const MAX_ITEMS: usize = 512;

/// The most text of one transaction, in bytes; a first item is always taken.
const MAX_BYTES: usize = 256 * 1024;

/// A send and its waiters: equal sends of one batch are one row with several.
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

impl Batch {
    /// Takes what fits from the front of what waits. Leaves behind a send whose `request_id` the batch has already with other
    /// content, and all after it.
    pub(super) fn gather(waiting: &mut VecDeque<Work>) -> Self {
        let mut batch = Self::default();
        let mut known: HashMap<(ConversationId, UserId, String), usize> = HashMap::new();
        let mut bytes = 0;
        while batch.len() < MAX_ITEMS && bytes < MAX_BYTES {
            match waiting.pop_front() {
                Some(Work::Send(send, waiter)) => {
                    let key = (send.conversation_id.clone(), send.sender_id.clone(), send.request_id.clone());
                    match known.entry(key) {
                        Entry::Vacant(vacant) => {
                            vacant.insert(batch.sends.len());
                            bytes += send.bytes();
                            batch.sends.push(WaitingSend { send, first: waiter, repeats: Vec::new() });
                        }
                        Entry::Occupied(same) if batch.sends[*same.get()].send.request_hash == send.request_hash => {
                            batch.sends[*same.get()].repeats.push(waiter);
                        }
                        Entry::Occupied(_) => {
                            waiting.push_front(Work::Send(send, waiter));
                            break;
                        }
                    }
                }
                Some(Work::Change(change, waiter)) => {
                    bytes += change.bytes();
                    batch.changes.push(WaitingChange { change, waiter });
                }
                None => break,
            }
        }
        if planted::is(Bug::BatchReversed) {
            batch.sends.reverse();
        }
        batch
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

    /// The calls that wait for it, where traces are on.
    pub(super) fn spans(&self) -> impl Iterator<Item = &Span> {
        let of_sends = self.sends.iter().flat_map(|waiting| std::iter::once(&waiting.first).chain(&waiting.repeats));
        let spans = of_sends.map(|waiter| &waiter.span);
        spans.chain(self.changes.iter().map(|waiting| &waiting.waiter.span))
    }

    /// Two halves, to find the item that the database refuses.
    pub(super) fn split(mut self) -> (Self, Self) {
        let sends = self.sends.split_off(self.sends.len().div_ceil(2));
        // With one send or none left to halve, the changes are.
        let at = if sends.is_empty() && self.sends.is_empty() { self.changes.len().div_ceil(2) } else { 0 };
        let changes = self.changes.split_off(at);
        (self, Self { sends, changes })
    }

    /// Everything of this may be stored, for a try ended without an answer.
    pub(super) fn doubt(&mut self, error: &Arc<Error>) {
        for waiting in &mut self.sends {
            for waiter in std::iter::once(&mut waiting.first).chain(&mut waiting.repeats) {
                waiter.doubt = Some(error.clone());
            }
        }
        for waiting in &mut self.changes {
            waiting.waiter.doubt = Some(error.clone());
        }
    }

    /// Answers those whose time is over, and keeps the others: `error`, unless they are in doubt.
    pub(super) fn expire(&mut self, now: Instant, error: &WriteError) {
        for waiting in std::mem::take(&mut self.sends) {
            let live = |waiter: &Waiter<SendOutcome>| waiter.deadline > now;
            if live(&waiting.first) || waiting.repeats.iter().any(live) {
                self.sends.push(waiting);
            } else {
                waiting.answer(&Err(error.clone()));
            }
        }
        for waiting in std::mem::take(&mut self.changes) {
            if waiting.waiter.deadline > now {
                self.changes.push(waiting);
            } else {
                waiting.waiter.answer(Err(error.clone()));
            }
        }
    }

    /// Answers everyone with the same failure, unless they are in doubt.
    pub(super) fn fail(self, error: &WriteError) {
        for waiting in self.sends {
            waiting.answer(&Err(error.clone()));
        }
        for waiting in self.changes {
            waiting.waiter.answer(Err(error.clone()));
        }
    }

    /// Answers each with its outcome; gives back what was locked, in order.
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

    /// Answers each as if it had been stored, wherever.
    #[cfg(feature = "planted-bugs")]
    pub(super) fn answer_as_if_stored(self) -> Vec<Work> {
        let stored = crate::domain::message::StoredAt {
            sequence: crate::domain::sequence::Sequence::FIRST,
            ordinal: 1,
            created_at: time::OffsetDateTime::UNIX_EPOCH,
        };
        let sent = SendOutcome { outcome: Outcome::Done, stored: Some(stored) };
        let appended = BatchOutcome {
            sends: vec![sent; self.sends.len()],
            changes: vec![Outcome::Done; self.changes.len()],
            heads: HashMap::new(),
        };
        self.answer(&appended)
    }

    /// Gives everything back, in order.
    pub(super) fn give_back(self) -> Vec<Work> {
        let mut works = Vec::with_capacity(self.len());
        self.sends.into_iter().for_each(|waiting| waiting.give_back(&mut works));
        works.extend(self.changes.into_iter().map(|waiting| Work::Change(waiting.change, waiting.waiter)));
        works
    }
}

impl<R> Waiter<R> {
    /// A failure of a write in doubt is an unknown outcome, whatever it was that failed last. A reply that nobody waits for
    /// any more is nobody's loss.
    fn answer(self, answer: Result<R, WriteError>) {
        let answer = match (answer, self.doubt) {
            (Err(_), Some(doubt)) => Err(WriteError::OutcomeUnknown(doubt)),
            (answer, _) => answer,
        };
        let _ = self.reply.send(answer);
    }
}

impl WaitingChange {
    /// A refusal may come of the change's own earlier try.
    fn answer(self, outcome: Outcome) {
        let is_refusal = !matches!(outcome, Outcome::Done | Outcome::Unchanged);
        let answer = match &self.waiter.doubt {
            Some(_) if is_refusal && self.change.is_done_by(outcome) => Ok(Outcome::Done),
            Some(doubt) if is_refusal => Err(WriteError::OutcomeUnknown(doubt.clone())),
            _ => Ok(outcome),
        };
        self.waiter.answer(answer);
    }
}

impl WaitingSend {
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

impl Work {
    pub(super) fn conversation_id(&self) -> &ConversationId {
        match self {
            Self::Send(send, _) => &send.conversation_id,
            Self::Change(change, _) => &change.conversation_id,
        }
    }
}
