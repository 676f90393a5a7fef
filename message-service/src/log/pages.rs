//! Pages of the log for those who are behind: a bounded number of reads at a time for the whole process, and equal ones
//! shared, so that a thousand subscribers coming back at once ask the database once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tokio::sync::{OnceCell, Semaphore};

use super::live::LiveLogs;
use crate::{
    domain::{
        encoded::EncodedEntry,
        ids::{ConversationId, UserId},
        sequence::Position,
    },
    storage::{Error, Store, memberships::MembershipView},
};

/// The most page reads at a time.
const MAX_READS: usize = 32;

/// The most entries of a page.
const MAX_ENTRIES: i64 = 512;

/// About the most bytes of a page: what one subscriber may hold.
const MAX_BYTES: i64 = 64 * 1024;

/// A part of a log, encoded once.
#[derive(Debug)]
pub(super) struct LogPage {
    pub(super) frames: Vec<EncodedEntry>,
    /// The head when it was read.
    pub(super) last_sequence: Position,
}

type Read = Arc<OnceCell<Option<Arc<LogPage>>>>;

/// Reads pages. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Pages {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    store: Store,
    live: LiveLogs,
    reads: Semaphore,
    running: Mutex<HashMap<(ConversationId, Position), Read>>,
}

impl Pages {
    pub(crate) fn new(store: Store, live: LiveLogs) -> Self {
        Self { shared: Arc::new(Shared { store, live, reads: Semaphore::new(MAX_READS), running: Mutex::default() }) }
    }

    /// Reads the entries after a position; `None` if the conversation is gone. The position must not lie before what is kept.
    /// May be dropped at any time.
    pub(super) async fn read(
        &self,
        conversation_id: &ConversationId,
        after: Position,
    ) -> Result<Option<Arc<LogPage>>, Error> {
        let key = (conversation_id.clone(), after);
        let read = self.lock().entry(key.clone()).or_default().clone();
        let waiting = Waiting { pages: self, key, read };
        // Should the one who reads go away in the middle, the next one who waits reads.
        let page = waiting.read.get_or_try_init(|| self.read_storage(conversation_id, after)).await?.clone();
        waiting.end();
        Ok(page)
    }

    /// The next conversations of a user after this one, at most [`MAX_LISTED`](crate::storage::memberships::MAX_LISTED), in order.
    pub(super) async fn list_conversation_ids(
        &self,
        user_id: &UserId,
        after: Option<&ConversationId>,
    ) -> Result<Vec<ConversationId>, Error> {
        let _turn = self.shared.reads.acquire().await;
        self.shared.store.list_conversation_ids(user_id, after).await
    }

    /// Where a user stands in those of the conversations that there are.
    pub(super) async fn find_places(
        &self,
        user_id: &UserId,
        conversation_ids: &[ConversationId],
    ) -> Result<Vec<MembershipView>, Error> {
        let _turn = self.shared.reads.acquire().await;
        self.shared.store.find_memberships(user_id, conversation_ids).await
    }

    async fn read_storage(
        &self,
        conversation_id: &ConversationId,
        after: Position,
    ) -> Result<Option<Arc<LogPage>>, Error> {
        let Ok(_turn) = self.shared.reads.acquire().await else {
            return Ok(None);
        };
        let began = Instant::now();
        let page = self.shared.store.read_log(conversation_id, after, MAX_ENTRIES, MAX_BYTES).await?;
        self.shared.live.counted().page_seconds.record(began.elapsed());
        Ok(page.map(|page| {
            let frames = page.events.iter().map(|event| self.shared.live.encode(event)).collect();
            Arc::new(LogPage { frames, last_sequence: page.last_sequence })
        }))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(ConversationId, Position), Read>> {
        self.shared.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of those who wait for a read. The last one to go takes it out.
struct Waiting<'p> {
    pages: &'p Pages,
    key: (ConversationId, Position),
    read: Read,
}

impl Waiting<'_> {
    /// The read is done: whoever comes later reads anew.
    fn end(&self) {
        let mut running = self.pages.lock();
        if running.get(&self.key).is_some_and(|current| Arc::ptr_eq(current, &self.read)) {
            running.remove(&self.key);
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut running = self.pages.lock();
        // Given up while the map is locked, so that one of two who go at once sees that nobody else is left.
        let read = std::mem::take(&mut self.read);
        let is_current = running.get(&self.key).is_some_and(|current| Arc::ptr_eq(current, &read));
        drop(read);
        if is_current && running.get(&self.key).is_some_and(|current| Arc::strong_count(current) == 1) {
            running.remove(&self.key);
        }
    }
}
