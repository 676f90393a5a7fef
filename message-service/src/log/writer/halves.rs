//! The run of a batch that may be halved: which part is next, and what is given back.

use std::collections::HashSet;

use super::{
    batch::Batch,
    work::{Sender, Work},
};

/// The result of running a batch until there is one.
#[derive(Debug)]
pub(super) enum Attempted {
    /// All waiters were answered but those of these writes, whose conversations are locked.
    Answered(Vec<Work>),
    /// The batch must be halved.
    Halve(Batch),
}

/// A batch, as the parts that are still to be run in order. Once a send was given back, all later sends of its sender to
/// its conversation are given back, too: the lock may be free by then, and they would be stored first.
#[derive(Debug)]
pub(super) struct Halves {
    /// The next part is the last.
    parts: Vec<Batch>,
    given_back: Vec<Work>,
    senders: HashSet<Sender>,
}

impl Halves {
    pub(super) fn of(batch: Batch) -> Self {
        Self { parts: vec![batch], given_back: Vec::new(), senders: HashSet::new() }
    }

    /// Returns the next part to run.
    pub(super) fn next(&mut self) -> Option<Batch> {
        while let Some(mut part) = self.parts.pop() {
            self.given_back.extend(part.take_sends_of(&self.senders));
            if !part.is_empty() {
                return Some(part);
            }
        }
        None
    }

    /// Notes the result of the part that was run last.
    pub(super) fn note(&mut self, attempted: Attempted) {
        match attempted {
            Attempted::Answered(works) => {
                self.senders.extend(works.iter().filter_map(Work::sender));
                self.given_back.extend(works);
            }
            Attempted::Halve(batch) => {
                let (first, second) = batch.split();
                self.parts.extend([second, first]);
            }
        }
    }

    /// Returns the writes that were given back, in order.
    pub(super) fn given_back(self) -> Vec<Work> {
        self.given_back
    }
}
