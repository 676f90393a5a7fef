//! A position in one conversation's log. Snapshot, catch-up, lag, reconnect and live delivery are the same: the entries
//! of the ring after the position, else a page from storage, else nothing until the head moves.

use std::sync::Arc;

use super::{
    live::{LiveLogs, Registration},
    pages::LogPage,
    ring::Ahead,
    signals::Signal,
};
use crate::{
    domain::{encoded::EncodedEntry, ids::ConversationId, sequence::Position},
    planted,
};

/// About the most bytes taken from the ring at a time.
const MAX_BYTES: usize = 32 * 1024;

/// A position in one conversation's log that moves forward. There is no queue behind it: a slow reader costs only the
/// entries that it took last.
#[derive(Debug)]
pub(super) struct Cursor {
    registration: Registration,
    position: Position,
    /// The head that was known before storage was read.
    known: Option<Position>,
}

impl Cursor {
    /// Registers at the live log, without a position yet. Only what is read from storage after this is complete.
    pub(super) fn register(live: &LiveLogs, conversation_id: &ConversationId, signal: &Arc<Signal>) -> Self {
        let registration = live.follow(conversation_id, signal);
        Self { known: registration.head(), registration, position: Position::START }
    }

    /// Starts at a position; `head` was read from storage after the registration.
    pub(super) fn begin(&mut self, position: Position, head: Position) {
        self.position = position;
        self.registration.settle_head(head, self.known);
    }

    pub(super) fn conversation_id(&self) -> &ConversationId {
        self.registration.conversation_id()
    }

    /// Returns the position after the last entry that was taken.
    pub(super) fn position(&self) -> Position {
        self.position
    }

    /// Takes the next entries of the ring, without a hole; the position moves past them.
    pub(super) fn read_ring(&mut self) -> Ahead {
        let ahead = self.registration.read_ring(self.position, MAX_BYTES);
        if let Ahead::Entries(entries) = &ahead {
            self.advance(entries);
        }
        ahead
    }

    /// Takes a page read from storage after the position; the position moves past it. Returns no entries if the known
    /// head is ahead of storage.
    pub(super) fn accept(&mut self, page: &LogPage) -> Vec<EncodedEntry> {
        self.registration.advance_head(page.last_sequence);
        self.registration.refill(&page.entries);
        self.advance(&page.entries);
        planted::believe_head(&mut self.position, &page.entries, self.registration.head());
        page.entries.clone()
    }

    fn advance(&mut self, entries: &[EncodedEntry]) {
        let Some((first, last)) = entries.first().zip(entries.last()) else { return };
        debug_assert!(planted::is_on() || first.sequence == self.position.next(), "the position moves without a hole");
        debug_assert!(planted::is_on() || Position::from(last.sequence) > self.position, "the position moves forward");
        self.position = last.sequence.into();
    }
}
