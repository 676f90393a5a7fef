//! The near side of the bus: takes what is to be told and never waits. What is not told in time becomes "look".

use std::{
    collections::HashMap,
    mem::{Discriminant, discriminant},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::timeout};

use super::{Entries, Hint};
use crate::domain::{
    encoded::EncodedEntry,
    ephemeral::{Ephemeral, EphemeralKind},
    ids::{ConversationId, UserId},
    sequence::Position,
};

/// The most entries that wait, in bytes. When there are more, the others are told to look instead.
const MAX_ENTRIES_BYTES: usize = 1024 * 1024;

/// The most things told live only that wait; what comes beyond that is lost.
const MAX_EPHEMERALS: usize = 1_024;

/// What is told live only is gathered for this long while nothing else is to be told.
const GATHER: Duration = Duration::from_millis(20);

/// Where what is to be told waits for the bus, and where what was heard makes others look. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Exchange {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    carries_entries: bool,
    waiting: Mutex<Waiting>,
    /// Something waits.
    something: Notify,
    /// Something waits that is not only live.
    news: Notify,
    look: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    look: bool,
    entries: HashMap<ConversationId, Vec<EncodedEntry>>,
    entries_bytes: usize,
    ephemerals: HashMap<(ConversationId, UserId, Discriminant<EphemeralKind>), Ephemeral>,
}

impl Exchange {
    /// Of a bus that carries entries, or one that only makes others look.
    pub(crate) fn new(carries_entries: bool) -> Self {
        let (something, news, look) = (Notify::new(), Notify::new(), Notify::new());
        Self { shared: Arc::new(Shared { carries_entries, waiting: Mutex::default(), something, news, look }) }
    }

    /// Whether entries are worth handing over.
    pub(crate) fn carries_entries(&self) -> bool {
        self.shared.carries_entries
    }

    /// Something was committed.
    pub(crate) fn announce_commit(&self) {
        self.lock().look = true;
        self.shared.news.notify_one();
        self.shared.something.notify_one();
    }

    /// These entries were committed: all that was, in this conversation, by one transaction.
    pub(crate) fn announce_entries(&self, conversation_id: &ConversationId, frames: Vec<EncodedEntry>) {
        if !self.carries_entries() {
            return self.announce_commit();
        }
        let mut waiting = self.lock();
        waiting.entries_bytes += frames.iter().map(|frame| frame.bytes.len()).sum::<usize>();
        if waiting.entries_bytes > MAX_ENTRIES_BYTES {
            waiting.give_entries_up();
        } else {
            let known = waiting.entries.entry(conversation_id.clone()).or_default();
            let continues = known
                .last()
                .zip(frames.first())
                .is_none_or(|(last, first)| first.sequence == Position::from(last.sequence).next());
            known.extend(frames);
            // Another replica wrote in between.
            if !continues {
                waiting.entries.remove(conversation_id);
                waiting.look = true;
            }
        }
        drop(waiting);
        self.shared.news.notify_one();
        self.shared.something.notify_one();
    }

    /// Something is to be told that is live only. Of one member and kind only the newest waits.
    pub(crate) fn broadcast_ephemeral(&self, ephemeral: Ephemeral) {
        let key = (ephemeral.conversation_id.clone(), ephemeral.user_id.clone(), discriminant(&ephemeral.kind));
        let mut waiting = self.lock();
        if waiting.ephemerals.len() < MAX_EPHEMERALS || waiting.ephemerals.contains_key(&key) {
            waiting.ephemerals.insert(key, ephemeral);
            drop(waiting);
            self.shared.something.notify_one();
        }
    }

    /// For the bus: waits until there is something to tell, and takes all of it.
    pub(crate) async fn next(&self) -> Hint {
        loop {
            self.shared.something.notified().await;
            if !self.lock().has_news() {
                let _ = timeout(GATHER, self.shared.news.notified()).await;
            }
            let waiting = std::mem::take(&mut *self.lock());
            let hint = Hint {
                look: waiting.look,
                entries: waiting
                    .entries
                    .into_iter()
                    .map(|(conversation_id, frames)| Entries { conversation_id, frames })
                    .collect(),
                ephemerals: waiting.ephemerals.into_values().collect(),
            };
            if hint.look || !hint.entries.is_empty() || !hint.ephemerals.is_empty() {
                return hint;
            }
        }
    }

    /// For the bus: another replica has committed something.
    pub(crate) fn request_poll(&self) {
        self.shared.look.notify_one();
    }

    /// Waits until another replica has said so since the last time.
    pub(crate) async fn poll_requested(&self) {
        self.shared.look.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn has_news(&self) -> bool {
        self.look || !self.entries.is_empty()
    }

    fn give_entries_up(&mut self) {
        self.entries.clear();
        self.entries_bytes = 0;
        self.look = true;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::domain::sequence::Sequence;

    fn frames(sequences: std::ops::RangeInclusive<i64>, bytes: usize) -> Vec<EncodedEntry> {
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
    async fn what_continues_is_gathered_and_what_does_not_makes_others_look() {
        let exchange = Exchange::new(true);
        exchange.announce_entries(&"a".into(), frames(5..=6, 10));
        exchange.announce_entries(&"a".into(), frames(7..=7, 10));
        exchange.announce_entries(&"b".into(), frames(1..=1, 10));
        exchange.announce_entries(&"b".into(), frames(3..=3, 10));
        let hint = exchange.next().await;
        let told: Vec<_> =
            hint.entries.iter().map(|entries| (&*entries.conversation_id, entries.frames.len())).collect();
        assert_eq!((told, hint.look), (vec![("a", 3)], true));
    }

    #[tokio::test]
    async fn too_much_becomes_a_look_and_a_bus_without_entries_has_nothing_else() {
        let exchange = Exchange::new(true);
        exchange.announce_entries(&"a".into(), frames(1..=3, MAX_ENTRIES_BYTES / 2));
        let hint = exchange.next().await;
        assert!(hint.look && hint.entries.is_empty());
        exchange.announce_entries(&"a".into(), frames(4..=4, 10));
        assert!(!exchange.next().await.look);
        let exchange = Exchange::new(false);
        exchange.announce_entries(&"a".into(), frames(1..=1, 10));
        let hint = exchange.next().await;
        assert!(hint.look && hint.entries.is_empty());
    }

    #[tokio::test]
    async fn of_what_is_live_only_the_newest_is_told_and_no_more_than_so_much() {
        let exchange = Exchange::new(false);
        for sequence in 1..=9 {
            let kind = EphemeralKind::ReadMarker { last_read_sequence: Position::new(sequence).unwrap() };
            exchange.broadcast_ephemeral(Ephemeral { kind, ..typing("a", "ann") });
            exchange.broadcast_ephemeral(typing("a", "ann"));
        }
        let hint = exchange.next().await;
        assert!(!hint.look && hint.ephemerals.len() == 2);
        let newest = EphemeralKind::ReadMarker { last_read_sequence: Position::new(9).unwrap() };
        assert!(hint.ephemerals.iter().any(|ephemeral| ephemeral.kind == newest), "{hint:?}");
        for n in 0..2 * MAX_EPHEMERALS {
            exchange.broadcast_ephemeral(typing("a", &n.to_string()));
        }
        assert_eq!(exchange.next().await.ephemerals.len(), MAX_EPHEMERALS);
    }
}
