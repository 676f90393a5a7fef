//! One conversation's live log: its ring and its subscribers.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use service_kit::sync::lock;

use super::super::{
    ring::{Budget, Ring},
    signals::Signal,
};
use crate::domain::ids::ConversationId;

/// The most subscribers that are taken from a log at a time, so that it is never locked for long.
pub(super) const MAX_PART: usize = 256;

/// The live log of one conversation.
#[derive(Debug)]
pub(super) struct LiveLog {
    pub(super) conversation_id: ConversationId,
    state: Mutex<State>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) ring: Ring,
    pub(super) subscribers: Subscribers,
    pub(super) used_at: Instant,
    /// Its subscribers are being woken.
    pub(super) is_waking: bool,
    /// The head has moved since that began.
    pub(super) has_moved: bool,
}

/// The subscribers of a log, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Subscribers {
    by_key: BTreeMap<u64, Arc<Subscriber>>,
    next_key: u64,
}

/// A subscription that follows one conversation.
#[derive(Debug)]
pub(super) struct Subscriber {
    signal: Arc<Signal>,
    /// The signal contains this conversation already.
    is_signalled: AtomicBool,
}

/// Some of the subscribers of a log.
pub(super) struct Part {
    pub(super) subscribers: Vec<Arc<Subscriber>>,
    /// The key of the last of them, unless the log has no more.
    pub(super) last: Option<u64>,
}

impl LiveLog {
    pub(super) fn new(conversation_id: &ConversationId, budget: Budget, now: Instant) -> Self {
        let state = State {
            ring: Ring::new(budget),
            subscribers: Subscribers::default(),
            used_at: now,
            is_waking: false,
            has_moved: false,
        };
        Self { conversation_id: conversation_id.clone(), state: Mutex::new(state) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Returns every subscriber, part by part, each read when it is asked for.
    pub(super) fn parts(&self) -> impl Iterator<Item = Vec<Arc<Subscriber>>> {
        let mut after = Some(None);
        std::iter::from_fn(move || {
            let part = self.lock().subscribers.part(after?);
            after = part.last.map(Some);
            Some(part.subscribers)
        })
    }
}

impl Subscribers {
    /// Adds a subscriber and returns its key.
    pub(super) fn add(&mut self, subscriber: Arc<Subscriber>) -> u64 {
        let key = self.next_key;
        self.next_key += 1;
        self.by_key.insert(key, subscriber);
        key
    }

    pub(super) fn remove(&mut self, key: u64) {
        self.by_key.remove(&key);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// Returns subscribers after this key, or the first ones.
    pub(super) fn part(&self, after: Option<u64>) -> Part {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = self.by_key.range((start, Bound::Unbounded));
        let (mut subscribers, mut last) = (Vec::new(), None);
        for (key, subscriber) in rest.by_ref().take(MAX_PART) {
            subscribers.push(subscriber.clone());
            last = Some(*key);
        }
        Part { subscribers, last: last.filter(|_| rest.next().is_some()) }
    }
}

impl Subscriber {
    pub(super) fn new(signal: &Arc<Signal>) -> Self {
        Self { signal: signal.clone(), is_signalled: AtomicBool::new(false) }
    }

    pub(super) fn signal(&self) -> &Signal {
        &self.signal
    }

    /// Signals that the head has moved, unless that is signalled already.
    pub(super) fn wake(&self, conversation_id: &ConversationId) {
        if !self.is_signalled.swap(true, Ordering::AcqRel) {
            self.signal.head_moved(conversation_id);
        }
    }

    /// Begins to read the ring: moves of the head after this are signalled again.
    pub(super) fn reads(&self) {
        self.is_signalled.store(false, Ordering::Release);
    }
}
