//! The queue between the writers and the bus. Adding to it never blocks; what exceeds its bounds is replaced by a request
//! to poll the outbox, and ephemerals are dropped.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use service_kit::sync::lock;
use tokio::{sync::Notify, time::timeout};
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

use super::hint::{ConversationEntries, Hint};
use crate::domain::{
    coalesced::Coalesced, encoded::EncodedEntry, ephemeral::Ephemeral, ids::ConversationId, sequence::Position,
};

/// The most bytes of entries that wait; more are replaced by a poll.
const MAX_ENTRIES_BYTES: usize = 1024 * 1024;

/// The most ephemerals that wait; more are dropped.
const MAX_EPHEMERALS: usize = 1_024;

/// The delay in which ephemerals are coalesced while nothing was committed.
const EPHEMERAL_DELAY: Duration = Duration::from_millis(20);

/// The outgoing hints of this replica, and the poll requests of the others. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Exchange {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    carries_entries: bool,
    pending: Mutex<Pending>,
    /// Notified when anything is pending.
    any_pending: Notify,
    /// Notified when a commit is pending.
    commit_pending: Notify,
    poll_requested: Notify,
    writers: TaskTracker,
}

#[derive(Debug, Default)]
struct Pending {
    poll: bool,
    entries: HashMap<ConversationId, Vec<EncodedEntry>>,
    entries_bytes: usize,
    ephemerals: Coalesced<Ephemeral, MAX_EPHEMERALS>,
}

impl Exchange {
    /// Creates the exchange of a bus that carries entries, or of one that only requests polls.
    pub(crate) fn new(carries_entries: bool) -> Self {
        let (any_pending, commit_pending, poll_requested) = (Notify::new(), Notify::new(), Notify::new());
        let shared = Shared {
            carries_entries,
            pending: Mutex::default(),
            any_pending,
            commit_pending,
            poll_requested,
            writers: TaskTracker::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Returns true if the bus carries entries.
    pub(crate) fn carries_entries(&self) -> bool {
        self.shared.carries_entries
    }

    /// Registers a writer: until this is dropped it may announce commits, so the bus does not end.
    pub(crate) fn register_writer(&self) -> TaskTrackerToken {
        self.shared.writers.token()
    }

    /// Waits until all writers have ended. For the bus, when no new ones come.
    pub(super) async fn writers_ended(&self) {
        self.shared.writers.close();
        self.shared.writers.wait().await;
    }

    /// Announces a commit without its entries: the other replicas poll.
    pub(crate) fn announce_commit(&self) {
        self.lock().poll = true;
        self.notify_commit();
    }

    /// Announces the entries that one transaction committed to this conversation: all of them.
    pub(crate) fn announce_entries(&self, conversation_id: &ConversationId, entries: Vec<EncodedEntry>) {
        if !self.carries_entries() {
            return self.announce_commit();
        }
        let mut pending = self.lock();
        pending.entries_bytes += entries.iter().map(|entry| entry.bytes.len()).sum::<usize>();
        if pending.entries_bytes > MAX_ENTRIES_BYTES {
            pending.replace_entries_by_poll();
        } else {
            let known = pending.entries.entry(conversation_id.clone()).or_default();
            let continues = known
                .last()
                .zip(entries.first())
                .is_none_or(|(last, first)| first.sequence == Position::from(last.sequence).next());
            known.extend(entries);
            // Another replica wrote in between.
            if !continues {
                pending.entries.remove(conversation_id);
                pending.poll = true;
            }
        }
        drop(pending);
        self.notify_commit();
    }

    /// Sends an ephemeral to the other replicas, unless too many wait or a newer one replaces it.
    pub(crate) fn broadcast_ephemeral(&self, ephemeral: Ephemeral) {
        if self.lock().ephemerals.insert(&ephemeral.clone(), ephemeral) {
            self.shared.any_pending.notify_one();
        }
    }

    /// Waits until something is pending, and takes all of it. For the bus.
    pub(super) async fn next(&self) -> Hint {
        loop {
            self.shared.any_pending.notified().await;
            if !self.lock().has_commits() {
                let _ = timeout(EPHEMERAL_DELAY, self.shared.commit_pending.notified()).await;
            }
            if let Some(hint) = self.take() {
                return hint;
            }
        }
    }

    /// Takes all that is pending, if anything is. For the bus.
    pub(super) fn take(&self) -> Option<Hint> {
        let mut pending = std::mem::take(&mut *self.lock());
        let entries = pending.entries.into_iter();
        let hint = Hint {
            poll: pending.poll,
            entries: entries
                .map(|(conversation_id, entries)| ConversationEntries { conversation_id, entries })
                .collect(),
            ephemerals: pending.ephemerals.take().map(|(_, ephemeral)| ephemeral).collect(),
        };
        (hint.poll || !hint.entries.is_empty() || !hint.ephemerals.is_empty()).then_some(hint)
    }

    /// Requests a poll of the outbox, since something was committed that is not known here.
    pub(crate) fn request_poll(&self) {
        self.shared.poll_requested.notify_one();
    }

    /// Waits until a poll was requested since this last returned.
    pub(crate) async fn poll_requested(&self) {
        self.shared.poll_requested.notified().await;
    }

    fn notify_commit(&self) {
        self.shared.commit_pending.notify_one();
        self.shared.any_pending.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        lock(&self.shared.pending)
    }
}

impl Pending {
    fn has_commits(&self) -> bool {
        self.poll || !self.entries.is_empty()
    }

    fn replace_entries_by_poll(&mut self) {
        self.entries.clear();
        self.entries_bytes = 0;
        self.poll = true;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::domain::{ephemeral::EphemeralKind, sequence::Sequence};

    fn entries(sequences: std::ops::RangeInclusive<i64>, bytes: usize) -> Vec<EncodedEntry> {
        let entry = |number| EncodedEntry {
            sequence: Sequence::new(number).unwrap(),
            bytes: Bytes::from(vec![0; bytes]),
            ends_membership_of: None,
        };
        sequences.map(entry).collect()
    }

    fn typing(conversation_id: &str, user_id: &str) -> Ephemeral {
        let (conversation_id, user_id) = (conversation_id.into(), user_id.into());
        Ephemeral { conversation_id, user_id, kind: EphemeralKind::Typing, to_others: true }
    }

    #[tokio::test]
    async fn consecutive_entries_are_merged_and_a_gap_requests_a_poll() {
        let exchange = Exchange::new(true);
        exchange.announce_entries(&"a".into(), entries(5..=6, 10));
        exchange.announce_entries(&"a".into(), entries(7..=7, 10));
        exchange.announce_entries(&"b".into(), entries(1..=1, 10));
        exchange.announce_entries(&"b".into(), entries(3..=3, 10));
        let hint = exchange.next().await;
        let sent: Vec<_> = hint.entries.iter().map(|run| (&*run.conversation_id, run.entries.len())).collect();
        assert_eq!((sent, hint.poll), (vec![("a", 3)], true));
    }

    #[tokio::test]
    async fn too_many_entries_become_a_poll_and_a_bus_without_entries_has_only_polls() {
        let exchange = Exchange::new(true);
        exchange.announce_entries(&"a".into(), entries(1..=3, MAX_ENTRIES_BYTES / 2));
        let hint = exchange.next().await;
        assert!(hint.poll && hint.entries.is_empty());
        exchange.announce_entries(&"a".into(), entries(4..=4, 10));
        assert!(!exchange.next().await.poll);
        let exchange = Exchange::new(false);
        exchange.announce_entries(&"a".into(), entries(1..=1, 10));
        let hint = exchange.next().await;
        assert!(hint.poll && hint.entries.is_empty());
    }

    #[tokio::test]
    async fn of_ephemerals_the_newest_is_sent_and_their_number_is_bounded() {
        let exchange = Exchange::new(false);
        for sequence in 1..=9 {
            let kind = EphemeralKind::ReadMarker { last_read_sequence: Position::new(sequence).unwrap() };
            exchange.broadcast_ephemeral(Ephemeral { kind, ..typing("a", "ann") });
            exchange.broadcast_ephemeral(typing("a", "ann"));
        }
        let hint = exchange.next().await;
        assert!(!hint.poll && hint.ephemerals.len() == 2);
        let newest = EphemeralKind::ReadMarker { last_read_sequence: Position::new(9).unwrap() };
        assert!(hint.ephemerals.iter().any(|ephemeral| ephemeral.kind == newest), "{hint:?}");
        for n in 0..2 * MAX_EPHEMERALS {
            exchange.broadcast_ephemeral(typing("a", &n.to_string()));
        }
        assert_eq!(exchange.next().await.ephemerals.len(), MAX_EPHEMERALS);
    }
}
