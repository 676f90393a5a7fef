//! The near side of the bus: takes what is to be told and never waits. What is not told in time becomes "look".

use std::{
    collections::HashMap,
    mem::{Discriminant, discriminant},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::timeout};

use super::{Entries, Hint};
use crate::{
    domain::{
        conversation::Id,
        ephemeral::{Ephemeral, EphemeralKind},
    },
    log::live::Frame,
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
    entries: HashMap<Id, Vec<Frame>>,
    entries_bytes: usize,
    ephemerals: HashMap<(Id, Id, Discriminant<EphemeralKind>), Ephemeral>,
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
    pub(crate) fn committed(&self) {
        self.lock().look = true;
        self.shared.news.notify_one();
        self.shared.something.notify_one();
    }

    /// These entries were committed: all that was, in this conversation, by one transaction.
    pub(crate) fn entries(&self, conversation_id: &Id, frames: Vec<Frame>) {
        if !self.carries_entries() {
            return self.committed();
        }
        let mut waiting = self.lock();
        waiting.entries_bytes += frames.iter().map(|frame| frame.bytes.len()).sum::<usize>();
        if waiting.entries_bytes > MAX_ENTRIES_BYTES {
            waiting.give_entries_up();
        } else {
            let known = waiting.entries.entry(conversation_id.clone()).or_default();
            let continues =
                known.last().zip(frames.first()).is_none_or(|(last, first)| first.sequence == last.sequence + 1);
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
    pub(crate) fn pass_on(&self, ephemeral: Ephemeral) {
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
    pub(crate) fn look(&self) {
        self.shared.look.notify_one();
    }

    /// Waits until another replica has said so since the last time.
    pub(crate) async fn looked(&self) {
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

    fn frames(sequences: std::ops::RangeInclusive<i64>, bytes: usize) -> Vec<Frame> {
        sequences.map(|sequence| Frame { sequence, bytes: Bytes::from(vec![0; bytes]), left: None }).collect()
    }

    fn typing(conversation_id: &str, user_id: &str) -> Ephemeral {
        let (conversation_id, user_id) = (conversation_id.into(), user_id.into());
        Ephemeral { conversation_id, user_id, kind: EphemeralKind::Typing, to_others: true }
    }

    #[tokio::test]
    async fn what_continues_is_gathered_and_what_does_not_makes_others_look() {
        let exchange = Exchange::new(true);
        exchange.entries(&"a".into(), frames(5..=6, 10));
        exchange.entries(&"a".into(), frames(7..=7, 10));
        exchange.entries(&"b".into(), frames(1..=1, 10));
        exchange.entries(&"b".into(), frames(3..=3, 10));
        let hint = exchange.next().await;
        let told: Vec<_> =
            hint.entries.iter().map(|entries| (&*entries.conversation_id, entries.frames.len())).collect();
        assert_eq!((told, hint.look), (vec![("a", 3)], true));
    }

    #[tokio::test]
    async fn too_much_becomes_a_look_and_a_bus_without_entries_has_nothing_else() {
        let exchange = Exchange::new(true);
        exchange.entries(&"a".into(), frames(1..=3, MAX_ENTRIES_BYTES / 2));
        let hint = exchange.next().await;
        assert!(hint.look && hint.entries.is_empty());
        exchange.entries(&"a".into(), frames(4..=4, 10));
        assert!(!exchange.next().await.look);
        let exchange = Exchange::new(false);
        exchange.entries(&"a".into(), frames(1..=1, 10));
        let hint = exchange.next().await;
        assert!(hint.look && hint.entries.is_empty());
    }

    #[tokio::test]
    async fn of_what_is_live_only_the_newest_is_told_and_no_more_than_so_much() {
        let exchange = Exchange::new(false);
        for sequence in 1..=9 {
            let kind = EphemeralKind::ReadMarker { last_read_sequence: sequence };
            exchange.pass_on(Ephemeral { kind, ..typing("a", "ann") });
            exchange.pass_on(typing("a", "ann"));
        }
        let hint = exchange.next().await;
        assert!(!hint.look && hint.ephemerals.len() == 2);
        let newest = EphemeralKind::ReadMarker { last_read_sequence: 9 };
        assert!(hint.ephemerals.iter().any(|ephemeral| ephemeral.kind == newest), "{hint:?}");
        for n in 0..2 * MAX_EPHEMERALS {
            exchange.pass_on(typing("a", &n.to_string()));
        }
        assert_eq!(exchange.next().await.ephemerals.len(), MAX_EPHEMERALS);
    }
}
