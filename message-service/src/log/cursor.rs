//! A position in one conversation's log. Snapshot, catching up, falling behind, coming back and live are the same: what the
//! ring has after the position, else a page from storage, else nothing until the head moves.

use std::sync::Arc;

use super::{
    live::{Ahead, Following, LiveLogs},
    pages::LogPage,
    signal::Signal,
};
use crate::domain::{encoded::EncodedEntry, ids::ConversationId, sequence::Position};

/// About how much is taken from the ring at a time.
const MAX_BYTES: usize = 32 * 1024;

/// A position in one conversation's log that moves forward. There is no queue behind it: who does not take costs nothing but
/// what was taken last.
#[derive(Debug)]
pub(super) struct Cursor {
    following: Following,
    live: LiveLogs,
    position: Position,
}

impl Cursor {
    /// Begins to follow, at no position yet. Only what is read from storage after this may be trusted to be complete.
    pub(super) fn register(live: &LiveLogs, conversation_id: &ConversationId, signal: &Arc<Signal>) -> Self {
        Self { following: live.follow(conversation_id, signal), live: live.clone(), position: Position::START }
    }

    /// Takes its place, given the head read from storage after it was registered.
    pub(super) fn begin(&mut self, position: Position, head: Position) {
        self.position = position;
        self.live.advance_head(&self.following, head);
    }

    pub(super) fn conversation_id(&self) -> &ConversationId {
        self.following.conversation_id()
    }

    /// The last sequence that was taken.
    pub(super) fn position(&self) -> Position {
        self.position
    }

    /// Takes what the ring has next, without a hole; the position moves past it.
    pub(super) fn look(&mut self) -> Ahead {
        let ahead = self.following.after(self.position, MAX_BYTES);
        if let Ahead::Frames(frames) = &ahead {
            self.advance(frames);
        }
        ahead
    }

    /// Takes what was read from storage after the position; the position moves past it. Empty when the head that is known is
    /// ahead of what storage has.
    pub(super) fn accept(&mut self, page: &LogPage) -> Vec<EncodedEntry> {
        self.live.advance_head(&self.following, page.last_sequence);
        self.live.refill(&self.following, &page.frames);
        self.advance(&page.frames);
        page.frames.clone()
    }

    fn advance(&mut self, frames: &[EncodedEntry]) {
        if let Some(last) = frames.last() {
            self.position = last.sequence.into();
        }
    }
}
