//! A subscriber: a position in one conversation's log. Snapshot, catching up, falling behind, coming back and live are the
//! same loop: take what the ring has after the position, else a page from storage, else wait for the head to move.

use super::{
    live::{Ahead, Following, Frame, LiveLogs},
    pages::Pages,
};
use crate::{domain::conversation::Id, storage::Error};

/// About how much is taken from the ring at a time.
const MAX_BYTES: usize = 32 * 1024;

/// A position in one conversation's log that moves forward. There is no queue behind it: who does not take costs nothing but
/// what was taken last.
#[derive(Debug)]
pub(crate) struct Cursor {
    conversation_id: Id,
    following: Following,
    live: LiveLogs,
    pages: Pages,
    position: i64,
}

impl Cursor {
    /// Begins to follow, at no position yet. Only what is read from storage after this may be trusted to be complete.
    pub(crate) fn register(live: &LiveLogs, pages: &Pages, conversation_id: &Id) -> Self {
        Self {
            conversation_id: conversation_id.clone(),
            following: live.follow(conversation_id),
            live: live.clone(),
            pages: pages.clone(),
            position: 0,
        }
    }

    /// Takes its place, given the head read from storage after it was registered.
    pub(crate) fn begin(&mut self, position: i64, head: i64) {
        self.position = position;
        self.live.observe(&self.following, head);
    }

    /// The last sequence that was taken.
    pub(crate) fn position(&self) -> i64 {
        self.position
    }

    /// Takes what comes next, without a hole; empty when nothing more is known. The position moves past what is taken.
    ///
    /// # Errors
    /// Storage failed; the position is where it was, and the call may be repeated.
    pub(crate) async fn take(&mut self) -> Result<Vec<Frame>, Error> {
        let frames = match self.following.after(self.position, MAX_BYTES) {
            Ahead::Nothing => return Ok(Vec::new()),
            Ahead::Frames(frames) => frames,
            Ahead::InStorage => {
                let Some(page) = self.pages.read(&self.conversation_id, self.position).await? else {
                    return Ok(Vec::new());
                };
                self.live.observe(&self.following, page.last_sequence);
                self.live.refill(&self.following, &page.frames);
                page.frames.clone()
            }
        };
        if let Some(last) = frames.last() {
            self.position = last.sequence;
        }
        Ok(frames)
    }

    /// Waits until the head has moved since the last look.
    pub(crate) async fn moved(&self) {
        self.following.follower.moved.notified().await;
    }
}
