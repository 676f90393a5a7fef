//! The live log of each followed conversation: a [`Ring`] of the latest entries, each encoded once and shared by all
//! subscribers.
//!
//! A live log is created by its first subscriber and dropped once it has been without one for a while. It moves strictly
//! in sequence: a commit that does not continue the head empties the ring, and subscribers read the missing part from
//! storage.

mod epochs;
mod state;
mod waker;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use service_kit::{
    lifecycle::Lifecycle,
    sync::lock,
    telemetry::metrics::{self, gauge},
};

use self::{
    state::{LiveLog, State, Subscriber},
    waker::Waker,
};
use super::{
    clock::Clock,
    epoch::CurrentEpoch,
    membership_feed::{FeedRegistration, MembershipFeed},
    metrics::LiveLogMetrics,
    ring::{Advance, Ahead, Budget, Ring},
    signals::Signal,
    subscriber_count::{Counted, SubscriberCount},
};
use tokio::sync::Notify;

use crate::domain::{
    encoded::{Encode, EncodedEntry},
    ephemeral::Ephemeral,
    epoch::Epoch,
    event::Event,
    ids::{ConversationId, UserId},
    sequence::Position,
};

/// A ring without new entries for this long is emptied, and its log dropped if it has no subscriber.
const IDLE: Duration = Duration::from_mins(1);
/// Rings age this often: each reaches back at least this long.
const SWEEP: Duration = Duration::from_secs(10);
/// The least time between two attempts to make room.
const LEAST_PAUSE: Duration = Duration::from_millis(100);

/// The live logs of this process. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct LiveLogs {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    logs: Mutex<Logs>,
    feed: MembershipFeed,
    encode: Encode,
    budget: Budget,
    subscribers: SubscriberCount,
    waker: Waker,
    is_scarce: Notify,
    clock: Clock,
    metrics: LiveLogMetrics,
}

/// All live logs, which are of one epoch.
#[derive(Debug, Default)]
struct Logs {
    epoch: CurrentEpoch,
    of: HashMap<ConversationId, Arc<LiveLog>>,
}

/// The registration of a subscription at one live log; dropping it ends the signals.
#[derive(Debug)]
pub(super) struct Registration {
    live: LiveLogs,
    log: Arc<LiveLog>,
    key: u64,
    subscriber: Arc<Subscriber>,
    _counted: Counted,
}

impl LiveLogs {
    /// Creates no logs yet. All rings together keep to `max_bytes`.
    pub(crate) fn new(encode: Encode, max_bytes: usize, clock: Clock) -> Self {
        let subscribers = SubscriberCount::default();
        Self {
            shared: Arc::new(Shared {
                logs: Mutex::default(),
                feed: MembershipFeed::new(&subscribers),
                encode,
                budget: Budget::new(max_bytes),
                subscribers,
                waker: Waker::default(),
                is_scarce: Notify::new(),
                clock,
                metrics: LiveLogMetrics::new(),
            }),
        }
    }

    /// Returns the clock of the log.
    pub(super) fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    /// Returns the metrics of live logs and their subscribers.
    pub(super) fn metrics(&self) -> &LiveLogMetrics {
        &self.shared.metrics
    }

    /// Starts to measure the number of logs and the bytes in rings.
    pub(crate) fn watch(&self, lifecycle: &Lifecycle) {
        gauge!("parlance_live_ring_bytes_max").set(self.shared.budget.max() as f64);
        let shared = self.shared.clone();
        metrics::watch(lifecycle, move || {
            let conversations = lock(&shared.logs).of.len();
            shared.metrics.set_totals(conversations, shared.budget.used());
        });
    }

    /// Wakes the subscribers of logs whose heads have moved, until the lifecycle is closing.
    pub(crate) async fn wake(self, lifecycle: Lifecycle) {
        self.shared.waker.run(&lifecycle).await;
    }

    /// Drops idle logs, ages rings, and empties idle ones when their bytes become scarce, until the lifecycle is closing.
    pub(crate) async fn sweep(self, lifecycle: Lifecycle) {
        let sweep = async {
            let mut sweeps = tokio::time::interval(SWEEP);
            loop {
                tokio::select! {
                    _ = sweeps.tick() => self.sweep_once(self.shared.clock.now()),
                    () = self.shared.is_scarce.notified() => {
                        self.make_room();
                        tokio::time::sleep(LEAST_PAUSE).await;
                    }
                }
            }
        };
        lifecycle.closing().run_until_cancelled(sweep).await;
    }

    fn sweep_once(&self, now: Instant) {
        lock(&self.shared.logs).of.retain(|_, log| {
            let mut state = log.lock();
            if now.duration_since(state.used_at) < IDLE {
                state.ring.age();
                return true;
            }
            state.ring.clear();
            !state.subscribers.is_empty()
        });
    }

    /// Empties the rings that have been idle for the longest until there is room for others.
    fn make_room(&self) {
        let logs: Vec<_> = lock(&self.shared.logs).of.values().cloned().collect();
        let mut filled: Vec<_> = logs
            .into_iter()
            .filter_map(|log| {
                let state = log.lock();
                let used_at = (!state.ring.is_empty()).then_some(state.used_at)?;
                drop(state);
                Some((used_at, log))
            })
            .collect();
        filled.sort_unstable_by_key(|(used_at, _)| *used_at);
        for (_, log) in filled {
            if self.shared.budget.is_ample() {
                return;
            }
            log.lock().ring.clear();
        }
    }

    /// Encodes an entry.
    pub(super) fn encode(&self, event: &Event) -> EncodedEntry {
        self.shared.encode.entry(event)
    }

    /// Registers a subscription at a conversation. A head read from storage after this misses nothing: later commits move
    /// the head here.
    pub(super) fn follow(&self, conversation_id: &ConversationId, signal: &Arc<Signal>) -> Registration {
        let subscriber = Arc::new(Subscriber::new(signal));
        // Locked until the subscriber is in, so that the log is not dropped in between.
        let mut logs = lock(&self.shared.logs);
        let now = self.shared.clock.now();
        let new = || Arc::new(LiveLog::new(conversation_id, self.shared.budget.clone(), now));
        let log = logs.of.entry(conversation_id.clone()).or_insert_with(new).clone();
        let key = {
            let mut state = log.lock();
            state.used_at = now;
            state.subscribers.add(subscriber.clone())
        };
        Registration { live: self.clone(), log, key, subscriber, _counted: self.shared.subscribers.add() }
    }

    /// Registers a subscription for the joins of its user. A list of the user's conversations that is read after this
    /// misses no join.
    pub(super) fn follow_joins(&self, signal: &Arc<Signal>) -> FeedRegistration {
        self.shared.feed.register(signal)
    }

    /// Returns true while there are subscribers.
    pub(super) fn is_followed(&self) -> bool {
        self.shared.subscribers.is_any()
    }

    /// Waits for a subscriber. Only one task may wait at a time.
    pub(super) async fn wait_for_subscribers(&self) {
        self.shared.subscribers.wait_for_any().await;
    }

    /// Returns every followed conversation, and some that were followed a moment ago.
    pub(super) fn conversation_ids(&self) -> Vec<ConversationId> {
        lock(&self.shared.logs).of.keys().cloned().collect()
    }

    /// Returns every user with a subscription to everything.
    pub(super) fn user_ids(&self) -> Vec<UserId> {
        self.shared.feed.user_ids()
    }

    /// Takes over a commit of a writer in this epoch: the conversation's new head, and the entries that were stored as sends,
    /// in order. Costs nothing for a conversation without subscribers. Returns false if the epoch is not the current one: the
    /// outbox decides then.
    pub(super) fn append_committed(
        &self,
        epoch: Option<&Epoch>,
        conversation_id: &ConversationId,
        head: Position,
        stored: impl FnOnce() -> Vec<EncodedEntry>,
    ) -> bool {
        let found = {
            let logs = lock(&self.shared.logs);
            if !logs.epoch.is(epoch) {
                return false;
            }
            logs.of.get(conversation_id).cloned()
        };
        if let Some(log) = found {
            let stored = stored();
            self.update(&log, |ring| ring.append_committed(head, stored));
        }
        true
    }

    /// Takes over entries that another replica has committed, encoded, in order and without a hole. Only entries that
    /// continue the head are taken; returns false if there is a gap, so that storage must be read.
    pub(crate) fn append_from_replica(&self, conversation_id: &ConversationId, entries: Vec<EncodedEntry>) -> bool {
        let Some(log) = self.find(conversation_id) else { return true };
        let mut state = log.lock();
        let appended = state.ring.append_from_replica(entries);
        if let Ok(advance) = appended {
            self.settle(&log, &mut state, advance);
        }
        appended.is_ok()
    }

    /// Delivers an ephemeral to the conversation's subscribers here, to each at most once.
    pub(crate) fn broadcast_ephemeral(&self, ephemeral: &Ephemeral) {
        let Some(log) = self.find(&ephemeral.conversation_id) else { return };
        let bytes = (self.shared.encode.ephemeral)(ephemeral);
        for subscriber in log.parts().flatten() {
            if ephemeral.is_for(subscriber.signal().user_id()) {
                subscriber.signal().broadcast_ephemeral(ephemeral, &bytes);
            }
        }
    }

    /// Notifies the user's subscriptions to everything that the user was added to one or more of these conversations. A
    /// hint, which may name conversations that the user is not in.
    pub(super) fn notify_joined(&self, user_id: &UserId, conversation_ids: &[ConversationId]) {
        self.shared.feed.notify_joined(user_id, conversation_ids);
    }

    /// Moves the head of a followed conversation to one that was committed, unless a later one is known.
    pub(super) fn advance_head_of(&self, conversation_id: &ConversationId, head: Position) {
        if let Some(log) = self.find(conversation_id) {
            self.update(&log, |ring| ring.advance(head));
        }
    }

    /// Returns the known head of a followed conversation.
    pub(super) fn head_of(&self, conversation_id: &ConversationId) -> Option<Position> {
        self.find(conversation_id)?.lock().ring.head()
    }

    /// Moves the head of a followed conversation to one read from storage, forward or back. `known` is the head before the
    /// read began.
    pub(super) fn settle_head_of(&self, conversation_id: &ConversationId, head: Position, known: Option<Position>) {
        if let Some(log) = self.find(conversation_id) {
            self.update(&log, |ring| ring.settle(head, known));
        }
    }

    fn find(&self, conversation_id: &ConversationId) -> Option<Arc<LiveLog>> {
        lock(&self.shared.logs).of.get(conversation_id).cloned()
    }

    fn update(&self, log: &Arc<LiveLog>, change: impl FnOnce(&mut Ring) -> Advance) {
        let mut state = log.lock();
        let advance = change(&mut state.ring);
        self.settle(log, &mut state, advance);
    }

    /// Makes the subscribers due if the head has moved.
    fn settle(&self, log: &Arc<LiveLog>, state: &mut State, advance: Advance) {
        if advance == Advance::Appended {
            state.used_at = self.shared.clock.now();
            if self.shared.budget.is_scarce() {
                self.shared.is_scarce.notify_one();
            }
        }
        if advance != Advance::Unmoved {
            self.shared.waker.wake(log, state);
        }
    }
}

impl Registration {
    /// Returns the conversation.
    pub(super) fn conversation_id(&self) -> &ConversationId {
        &self.log.conversation_id
    }

    /// Returns the head, if it is known.
    pub(super) fn head(&self) -> Option<Position> {
        self.log.lock().ring.head()
    }

    /// Reads the ring: entries after a position, of about `max_bytes` at most, but always one if the ring has it. The
    /// subscription is signalled again when the head moves after this.
    pub(super) fn read_ring(&self, position: Position, max_bytes: usize) -> Ahead {
        self.subscriber.reads();
        self.log.lock().ring.after(position, max_bytes)
    }

    /// Moves the head to one read from storage, unless a later one is known.
    pub(super) fn advance_head(&self, head: Position) {
        self.live.update(&self.log, |ring| ring.advance(head));
    }

    /// Moves the head to one read from storage, forward or back. `known` is the head before the read began.
    pub(super) fn settle_head(&self, head: Position, known: Option<Position>) {
        self.live.update(&self.log, |ring| ring.settle(head, known));
    }

    /// Puts back a page read from storage, if it is the newest part of the log and the ring is empty.
    pub(super) fn refill(&self, page: &[EncodedEntry]) {
        let mut state = self.log.lock();
        if state.ring.refill(page) {
            state.used_at = self.live.shared.clock.now();
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut logs = lock(&self.live.shared.logs);
        let mut state = self.log.lock();
        state.subscribers.remove(self.key);
        // There is nothing to keep: a client may ask for any number of ids. The log may be one of an earlier epoch.
        let is_current = logs.of.get(&self.log.conversation_id).is_some_and(|log| Arc::ptr_eq(log, &self.log));
        if is_current && state.subscribers.is_empty() && state.ring.is_empty() {
            logs.of.remove(&self.log.conversation_id);
        }
    }
}

#[cfg(test)]
mod tests;
