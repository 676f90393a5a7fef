//! The live log of each followed conversation: a [`Ring`] of the latest entries, each encoded once and shared by all
//! subscribers.
//!
//! A live log is created by its first subscriber and dropped once it has been without one for a while. It moves strictly
//! in sequence: a commit that does not continue the head empties the ring, and subscribers read the missing part from
//! storage.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use service_kit::{
    lifecycle::Lifecycle,
    sync::lock,
    telemetry::metrics::{self, gauge},
};

use super::{
    clock::Clock,
    epoch::OpenEpoch,
    membership_feed::{FeedRegistration, MembershipFeed},
    metrics::LiveLogMetrics,
    ring::{Advance, Ahead, Budget, Ring},
    signals::Signal,
    subscriber_count::{Counted, SubscriberCount},
};
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
const SWEEP: Duration = Duration::from_secs(15);

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
    clock: Clock,
    metrics: LiveLogMetrics,
}

/// All live logs, which are of one epoch.
#[derive(Debug, Default)]
struct Logs {
    epoch: OpenEpoch,
    of: HashMap<ConversationId, Arc<LiveLog>>,
}

/// One conversation's live log.
#[derive(Debug)]
struct LiveLog {
    conversation_id: ConversationId,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    ring: Ring,
    subscribers: HashMap<u64, Arc<Subscriber>>,
    next_key: u64,
    used_at: Instant,
}

/// A subscription that follows one conversation.
#[derive(Debug)]
struct Subscriber {
    signal: Arc<Signal>,
    /// The signal contains this conversation already.
    is_signalled: AtomicBool,
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

    /// Drops idle logs, until the lifecycle is closing.
    pub(crate) async fn sweep(self, lifecycle: Lifecycle) {
        let sweep = async {
            loop {
                tokio::time::sleep(SWEEP).await;
                self.sweep_once(self.shared.clock.now());
            }
        };
        lifecycle.closing().run_until_cancelled(sweep).await;
    }

    fn sweep_once(&self, now: Instant) {
        lock(&self.shared.logs).of.retain(|_, log| {
            let mut state = lock(&log.state);
            if now.duration_since(state.used_at) < IDLE {
                return true;
            }
            state.ring.clear();
            !state.subscribers.is_empty()
        });
    }

    /// Encodes an entry.
    pub(super) fn encode(&self, event: &Event) -> EncodedEntry {
        self.shared.encode.entry(event)
    }

    /// Registers a subscription at a conversation. A head read from storage after this misses nothing: later commits move
    /// the head here.
    pub(super) fn follow(&self, conversation_id: &ConversationId, signal: &Arc<Signal>) -> Registration {
        let subscriber = Arc::new(Subscriber { signal: signal.clone(), is_signalled: AtomicBool::new(false) });
        // Locked until the subscriber is in, so that the log is not dropped in between.
        let mut logs = lock(&self.shared.logs);
        let log = logs.of.entry(conversation_id.clone()).or_insert_with(|| self.new_log(conversation_id)).clone();
        let key = lock(&log.state).add(subscriber.clone(), self.shared.clock.now());
        Registration { live: self.clone(), log, key, subscriber, _counted: self.shared.subscribers.add() }
    }

    fn new_log(&self, conversation_id: &ConversationId) -> Arc<LiveLog> {
        let state = Mutex::new(State::new(self.shared.budget.clone(), self.shared.clock.now()));
        Arc::new(LiveLog { conversation_id: conversation_id.clone(), state })
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

    /// Returns the current epoch. A stream takes it before it follows anything, and ends with it.
    pub(crate) fn epoch(&self) -> OpenEpoch {
        lock(&self.shared.logs).epoch.clone()
    }

    /// Enters an epoch. If it is another one, all logs are forgotten, since what was committed last may be lost, and all
    /// streams end: their clients come back with their positions and the epoch of these.
    pub(crate) fn enter(&self, epoch: &Epoch) {
        let (ended, forgotten) = {
            let mut logs = lock(&self.shared.logs);
            if logs.epoch.name() == Some(epoch) {
                return;
            }
            (std::mem::replace(&mut logs.epoch, OpenEpoch::new(epoch.clone())), std::mem::take(&mut logs.of))
        };
        ended.end(epoch);
        // A log that is still followed lives on with its last subscriber, and receives nothing.
        drop(forgotten);
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
            if logs.epoch.name() != epoch {
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
        let mut state = lock(&log.state);
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
        for subscriber in lock(&log.state).subscribers.values() {
            if ephemeral.is_for(subscriber.signal.user_id()) {
                subscriber.signal.broadcast_ephemeral(ephemeral, &bytes);
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
        lock(&self.find(conversation_id)?.state).ring.head()
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

    fn update(&self, log: &LiveLog, change: impl FnOnce(&mut Ring) -> Advance) {
        let mut state = lock(&log.state);
        let advance = change(&mut state.ring);
        self.settle(log, &mut state, advance);
    }

    /// Wakes the subscribers if the head has moved.
    fn settle(&self, log: &LiveLog, state: &mut State, advance: Advance) {
        if advance == Advance::Appended {
            state.used_at = self.shared.clock.now();
        }
        if advance != Advance::Unmoved {
            state.wake(&log.conversation_id);
        }
    }
}

impl State {
    fn new(budget: Budget, now: Instant) -> Self {
        Self { ring: Ring::new(budget), subscribers: HashMap::new(), next_key: 0, used_at: now }
    }

    fn add(&mut self, subscriber: Arc<Subscriber>, now: Instant) -> u64 {
        let key = self.next_key;
        self.next_key += 1;
        self.subscribers.insert(key, subscriber);
        self.used_at = now;
        key
    }

    fn wake(&self, conversation_id: &ConversationId) {
        for subscriber in self.subscribers.values() {
            if !subscriber.is_signalled.swap(true, Ordering::AcqRel) {
                subscriber.signal.head_moved(conversation_id);
            }
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
        lock(&self.log.state).ring.head()
    }

    /// Reads the ring: entries after a position, of about `max_bytes` at most, but always one if the ring has it. The
    /// subscription is signalled again when the head moves after this.
    pub(super) fn read_ring(&self, position: Position, max_bytes: usize) -> Ahead {
        self.subscriber.is_signalled.store(false, Ordering::Release);
        lock(&self.log.state).ring.after(position, max_bytes)
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
        let mut state = lock(&self.log.state);
        if state.ring.refill(page) {
            state.used_at = self.live.shared.clock.now();
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut logs = lock(&self.live.shared.logs);
        let mut state = lock(&self.log.state);
        state.subscribers.remove(&self.key);
        // There is nothing to keep: a client may ask for any number of ids. The log may be one of an earlier epoch.
        let is_current = logs.of.get(&self.log.conversation_id).is_some_and(|log| Arc::ptr_eq(log, &self.log));
        if is_current && state.subscribers.is_empty() && state.ring.is_empty() {
            logs.of.remove(&self.log.conversation_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::domain::sequence::Sequence;

    const ENCODE: Encode = Encode { entry: |_| Bytes::new(), ephemeral: |_| Bytes::new() };

    fn at(number: i64) -> Position {
        Position::new(number).unwrap()
    }

    fn entry(number: i64) -> EncodedEntry {
        let sequence = Sequence::new(number).unwrap();
        EncodedEntry { sequence, bytes: Bytes::from_static(b"entry"), ends_membership_of: None }
    }

    fn signal() -> Arc<Signal> {
        Arc::new(Signal::new("u".into()))
    }

    #[test]
    fn an_idle_log_is_dropped_and_its_bytes_are_given_back() {
        let clock = Clock::manual();
        let logs = LiveLogs::new(ENCODE, 4000, clock.clone());
        let registration = logs.follow(&"c".into(), &signal());
        registration.advance_head(at(0));
        logs.append_committed(None, &"c".into(), at(1), || vec![entry(1)]);
        assert!(logs.shared.budget.used() > 0);
        drop(registration);
        clock.advance(IDLE / 2);
        logs.sweep_once(clock.now());
        assert_eq!(logs.conversation_ids(), ["c".into()]);
        clock.advance(IDLE / 2);
        logs.sweep_once(clock.now());
        assert!(logs.conversation_ids().is_empty() && !logs.is_followed());
        assert_eq!(logs.shared.budget.used(), 0);
    }

    #[test]
    fn a_followed_log_stays_but_its_idle_ring_is_emptied() {
        let clock = Clock::manual();
        let logs = LiveLogs::new(ENCODE, 4000, clock.clone());
        let registration = logs.follow(&"c".into(), &signal());
        registration.advance_head(at(0));
        logs.append_committed(None, &"c".into(), at(1), || vec![entry(1)]);
        clock.advance(IDLE);
        logs.sweep_once(clock.now());
        assert_eq!((logs.shared.budget.used(), registration.head()), (0, Some(at(1))));
        assert!(matches!(registration.read_ring(at(0), 100), Ahead::InStorage));
    }

    #[test]
    fn a_subscription_is_signalled_once_until_it_reads_the_ring() {
        let logs = LiveLogs::new(ENCODE, 4000, Clock::manual());
        let signal = signal();
        let registration = logs.follow(&"c".into(), &signal);
        registration.advance_head(at(1));
        logs.advance_head_of(&"c".into(), at(2));
        assert_eq!(signal.take().moved, ["c".into()]);
        logs.advance_head_of(&"c".into(), at(3));
        assert!(signal.take().moved.is_empty());
        registration.read_ring(at(3), 100);
        logs.advance_head_of(&"c".into(), at(3));
        assert!(signal.take().moved.is_empty());
        logs.advance_head_of(&"c".into(), at(4));
        assert_eq!(signal.take().moved, ["c".into()]);
    }
}
