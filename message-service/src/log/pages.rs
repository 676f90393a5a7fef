//! Pages of the log for subscribers that are behind: a bounded number of reads at a time for the whole process, and equal
//! ones shared, so that a thousand subscribers that reconnect at once cost one query.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
};

use service_kit::sync::lock;
use tokio::sync::{OnceCell, Semaphore};

use super::live::LiveLogs;
use crate::{
    domain::{
        encoded::EncodedEntry,
        epoch::Epoch,
        ids::{ConversationId, UserId},
        sequence::Position,
    },
    storage::{Error, Store, memberships::MembershipView},
};

/// The most page reads at a time.
const MAX_READS: usize = 32;

/// The most entries of a page.
const MAX_ENTRIES: i64 = 512;

/// About the most bytes of a page, and so of the entries that one subscriber holds.
const MAX_BYTES: i64 = 64 * 1024;

/// A part of a log, encoded once.
#[derive(Debug)]
pub(super) struct LogPage {
    pub(super) entries: Vec<EncodedEntry>,
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
    /// Creates a reader of this store.
    pub(crate) fn new(store: Store, live: LiveLogs) -> Self {
        Self { shared: Arc::new(Shared { store, live, reads: Semaphore::new(MAX_READS), running: Mutex::default() }) }
    }

    /// Reads the entries after a position; `None` if the conversation does not exist. The position must not be before the
    /// oldest entry that is kept. May be dropped at any time.
    pub(super) async fn read(
        &self,
        conversation_id: &ConversationId,
        after: Position,
    ) -> Result<Option<Arc<LogPage>>, Error> {
        let key = (conversation_id.clone(), after);
        let read = self.lock().entry(key.clone()).or_default().clone();
        let waiting = Waiting { pages: self, key, read };
        // If the subscriber that reads is dropped in the middle, the next one that waits reads.
        let page = waiting.read.get_or_try_init(|| self.read_storage(conversation_id, after)).await?.clone();
        waiting.end();
        Ok(page)
    }

    /// Lists the next conversations of a user after this one, at most [`MAX_LISTED`](crate::storage::memberships::MAX_LISTED), in order.
    pub(super) async fn list_conversation_ids(
        &self,
        user_id: &UserId,
        after: Option<&ConversationId>,
    ) -> Result<Vec<ConversationId>, Error> {
        let _permit = self.shared.reads.acquire().await;
        self.shared.store.list_conversation_ids(user_id, after).await
    }

    /// Reads a user's place in each of the conversations that exist.
    pub(super) async fn find_memberships(
        &self,
        user_id: &UserId,
        conversation_ids: &[ConversationId],
    ) -> Result<Vec<MembershipView>, Error> {
        let _permit = self.shared.reads.acquire().await;
        self.shared.store.find_memberships(user_id, conversation_ids).await
    }

    /// Returns for each of these positions of an earlier epoch the last one that survived.
    pub(super) async fn find_surviving(
        &self,
        epoch: &Epoch,
        positions: &[(&ConversationId, Position)],
    ) -> Result<Vec<(ConversationId, Position)>, Error> {
        let _permit = self.shared.reads.acquire().await;
        self.shared.store.find_surviving(epoch, positions).await
    }

    async fn read_storage(
        &self,
        conversation_id: &ConversationId,
        after: Position,
    ) -> Result<Option<Arc<LogPage>>, Error> {
        let Ok(_permit) = self.shared.reads.acquire().await else {
            return Ok(None);
        };
        let live = &self.shared.live;
        let began = live.clock().now();
        let page = self.shared.store.read_log(conversation_id, after, MAX_ENTRIES, MAX_BYTES).await?;
        live.metrics().page_seconds.record(live.clock().now() - began);
        Ok(page.map(|page| {
            let entries = page.events.iter().map(|event| live.encode(event)).collect();
            Arc::new(LogPage { entries, last_sequence: page.last_sequence })
        }))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(ConversationId, Position), Read>> {
        lock(&self.shared.running)
    }
}

/// A subscriber that waits for a read. The last one removes the read from the map.
struct Waiting<'p> {
    pages: &'p Pages,
    key: (ConversationId, Position),
    read: Read,
}

impl Waiting<'_> {
    /// Ends the read: later calls read again.
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
        // Dropped while the map is locked, so that one of two that end at once finds itself the last.
        let read = std::mem::take(&mut self.read);
        let is_current = running.get(&self.key).is_some_and(|current| Arc::ptr_eq(current, &read));
        drop(read);
        if is_current && running.get(&self.key).is_some_and(|current| Arc::strong_count(current) == 1) {
            running.remove(&self.key);
        }
    }
}
