//! The live log of each followed conversation: its head and a ring of the latest entries, each encoded once and shared by
//! all who follow.
//!
//! A live log is made when somebody begins to follow and dropped when nobody has for a while. It publishes strictly in
//! sequence: what does not continue the head empties the ring, and followers read the missing part from storage. It never
//! holds a message that was edited or deleted after it was put in, for any other change empties the ring too.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use service_kit::{
    lifecycle::Lifecycle,
    telemetry::metrics::{self, gauge},
};
use tokio::sync::Notify;

use super::signal::Signal;
use crate::{
    domain::{
        encoded::{Encode, EncodedEntry},
        ephemeral::{Ephemeral, EphemeralKind},
        event::Event,
        ids::{ConversationId, UserId},
        sequence::Position,
    },
    metrics::LiveLogMetrics,
    planted::{self, Bug},
};

/// The most that one conversation's ring holds, in bytes of frames.
const MAX_RING_BYTES: usize = 256 * 1024;

/// A ring that nothing was put into for this long is given up, and a log that nobody follows with it.
const IDLE: Duration = Duration::from_mins(1);
const SWEEP: Duration = Duration::from_secs(15);

/// The live logs of this process. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct LiveLogs {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    logs: Mutex<HashMap<ConversationId, Arc<LiveLog>>>,
    inboxes: Mutex<Inboxes>,
    encode: Encode,
    /// Bytes of all rings.
    used_bytes: Arc<AtomicUsize>,
    max_bytes: usize,
    /// How many places and inboxes there are.
    followers: AtomicUsize,
    /// Somebody follows where nobody did.
    first_came: Notify,
    counted: LiveLogMetrics,
}

/// One conversation's live log.
#[derive(Debug)]
pub(super) struct LiveLog {
    conversation_id: ConversationId,
    state: Mutex<State>,
    used_bytes: Arc<AtomicUsize>,
}

impl Drop for LiveLog {
    // A writer may have put something in after the log was given up.
    fn drop(&mut self) {
        self.used_bytes.fetch_sub(lock(&self.state).ring_bytes, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct State {
    /// The last position known to be committed; `None` until one is known.
    head: Option<Position>,
    /// The latest entries, the last of them at `head`, without a hole; possibly none.
    ring: VecDeque<EncodedEntry>,
    ring_bytes: usize,
    followers: HashMap<u64, Arc<Follower>>,
    next_follower: u64,
    used_at: Instant,
}

/// One who follows one conversation.
#[derive(Debug)]
struct Follower {
    signal: Arc<Signal>,
    /// The signal says already that this conversation has moved.
    is_told: AtomicBool,
}

/// A place among the followers of one conversation; dropping it gives the place up.
#[derive(Debug)]
pub(super) struct Following {
    live: LiveLogs,
    log: Arc<LiveLog>,
    place: u64,
    follower: Arc<Follower>,
}

/// Those who subscribe to everything of a user, by user.
#[derive(Debug, Default)]
struct Inboxes {
    of_users: HashMap<UserId, HashMap<u64, Arc<Signal>>>,
    next: u64,
}

/// A place among those who hear of what a user joins; dropping it gives the place up.
#[derive(Debug)]
pub(super) struct Inbox {
    live: LiveLogs,
    user_id: UserId,
    place: u64,
}

/// What a live log has after a position.
#[derive(Debug)]
pub(super) enum Ahead {
    /// These entries come next.
    Frames(Vec<EncodedEntry>),
    /// There are entries after the position, but the ring does not reach back to it.
    InStorage,
    /// Nothing is known after the position.
    Nothing,
}

impl LiveLogs {
    /// Makes no logs yet. All rings together keep to `max_bytes`.
    pub(crate) fn new(encode: Encode, max_bytes: usize) -> Self {
        Self {
            shared: Arc::new(Shared {
                logs: Mutex::default(),
                inboxes: Mutex::default(),
                encode,
                used_bytes: Arc::default(),
                max_bytes,
                followers: AtomicUsize::new(0),
                first_came: Notify::new(),
                counted: LiveLogMetrics::new(),
            }),
        }
    }

    /// What is counted of live logs and those who follow them.
    pub(super) fn counted(&self) -> &LiveLogMetrics {
        &self.shared.counted
    }

    /// Counts what there is, from now on.
    pub(crate) fn watch(&self, lifecycle: &Lifecycle) {
        gauge!("parlance_live_ring_bytes_max").set(self.shared.max_bytes as f64);
        let shared = self.shared.clone();
        metrics::watch(lifecycle, move || {
            let conversations = lock(&shared.logs).len();
            shared.counted.hold(conversations, shared.used_bytes.load(Ordering::Relaxed));
        });
    }

    /// Gives up what is idle, until the lifecycle is closing.
    pub(crate) async fn sweep(self, lifecycle: Lifecycle) {
        let sweep = async {
            loop {
                tokio::time::sleep(SWEEP).await;
                self.sweep_once(Instant::now());
            }
        };
        lifecycle.closing().run_until_cancelled(sweep).await;
    }

    fn sweep_once(&self, now: Instant) {
        let mut logs = lock(&self.shared.logs);
        logs.retain(|_, log| {
            let mut state = lock(&log.state);
            if now.duration_since(state.used_at) < IDLE {
                return true;
            }
            self.empty(&mut state);
            !state.followers.is_empty()
        });
    }

    /// Encodes an entry.
    pub(super) fn encode(&self, event: &Event) -> EncodedEntry {
        self.shared.encode.entry(event)
    }

    /// Begins to follow a conversation. Whoever reads the head of storage after this misses nothing: what is committed later
    /// moves the head here.
    pub(super) fn follow(&self, conversation_id: &ConversationId, signal: &Arc<Signal>) -> Following {
        let follower = Arc::new(Follower { signal: signal.clone(), is_told: AtomicBool::new(false) });
        let mut logs = lock(&self.shared.logs);
        let used_bytes = &self.shared.used_bytes;
        let new = || {
            let conversation_id = conversation_id.clone();
            Arc::new(LiveLog { conversation_id, state: Mutex::new(State::new()), used_bytes: used_bytes.clone() })
        };
        let log = logs.entry(conversation_id.clone()).or_insert_with(new).clone();
        let mut state = lock(&log.state);
        let place = state.next_follower;
        state.next_follower += 1;
        state.followers.insert(place, follower.clone());
        state.used_at = Instant::now();
        drop(state);
        self.follower_added();
        Following { live: self.clone(), log, place, follower }
    }

    /// Begins to hear of what a user joins. Whoever lists the user's conversations after this misses none.
    pub(super) fn open_inbox(&self, signal: &Arc<Signal>) -> Inbox {
        let user_id = signal.user_id().clone();
        let mut inboxes = lock(&self.shared.inboxes);
        let place = inboxes.next;
        inboxes.next += 1;
        inboxes.of_users.entry(user_id.clone()).or_default().insert(place, signal.clone());
        drop(inboxes);
        self.follower_added();
        Inbox { live: self.clone(), user_id, place }
    }

    fn follower_added(&self) {
        if self.shared.followers.fetch_add(1, Ordering::AcqRel) == 0 {
            self.shared.first_came.notify_one();
        }
    }

    /// True when anybody follows anything.
    pub(super) fn is_followed(&self) -> bool {
        self.shared.followers.load(Ordering::Acquire) > 0
    }

    /// Waits until anybody follows anything. For one who waits at a time.
    pub(super) async fn followed(&self) {
        while !self.is_followed() {
            self.shared.first_came.notified().await;
        }
    }

    /// Every conversation that somebody follows, and some that somebody did a moment ago.
    pub(super) fn conversation_ids(&self) -> Vec<ConversationId> {
        lock(&self.shared.logs).keys().cloned().collect()
    }

    /// Every user whose inbox is open.
    pub(super) fn user_ids(&self) -> Vec<UserId> {
        lock(&self.shared.inboxes).of_users.keys().cloned().collect()
    }

    /// Takes over what a writer has committed: the conversation's head now, and the entries that were stored as sends, in
    /// order. Costs nothing for a conversation that nobody follows.
    pub(crate) fn append_committed(
        &self,
        conversation_id: &ConversationId,
        head: Position,
        stored: impl FnOnce() -> Vec<EncodedEntry>,
    ) {
        let Some(log) = lock(&self.shared.logs).get(conversation_id).cloned() else {
            return;
        };
        self.extend(&log, head, stored());
    }

    /// Moves a head, with the newest entries as far as they are known.
    fn extend(&self, log: &LiveLog, head: Position, frames: Vec<EncodedEntry>) {
        let mut state = lock(&log.state);
        if state.head.is_some_and(|known| head <= known) {
            return;
        }
        let continues = state.head.is_some_and(|known| {
            frames.first().is_some_and(|first| first.sequence == known.next())
                && frames.last().is_some_and(|last| Position::from(last.sequence) == head)
                && frames.len() as i64 == known.entries_until(head)
        });
        state.head = Some(head);
        if continues {
            self.push(&mut state, frames);
        } else {
            self.empty(&mut state);
        }
        state.wake(&log.conversation_id);
    }

    /// Takes over entries that another replica says it has committed, encoded, in order and without a hole. Only what continues
    /// the head here is taken; false when there is a hole between, so that storage must be looked at.
    pub(crate) fn append_from_replica(&self, conversation_id: &ConversationId, mut frames: Vec<EncodedEntry>) -> bool {
        let log = lock(&self.shared.logs).get(conversation_id).cloned();
        let Some(log) = log else { return true };
        let mut state = lock(&log.state);
        frames.retain(|frame| state.head.is_none_or(|head| Position::from(frame.sequence) > head));
        let Some((first, last)) =
            frames.first().zip(frames.last()).map(|(first, last)| (first.sequence, last.sequence))
        else {
            return true;
        };
        let continues = planted::is(Bug::HintTrusted) || state.head.is_some_and(|head| first == head.next());
        if continues {
            state.head = Some(last.into());
            self.push(&mut state, frames);
            state.wake(&log.conversation_id);
        }
        continues
    }

    /// Tells those who follow the conversation here, each at most once and perhaps never.
    pub(crate) fn broadcast_ephemeral(&self, ephemeral: &Ephemeral) {
        let log = lock(&self.shared.logs).get(&ephemeral.conversation_id).cloned();
        let Some(log) = log else { return };
        let bytes = (self.shared.encode.ephemeral)(ephemeral);
        for follower in lock(&log.state).followers.values() {
            let is_own = *follower.signal.user_id() == ephemeral.user_id;
            let is_told = match ephemeral.kind {
                EphemeralKind::ReadMarker { .. } => is_own || ephemeral.to_others,
                EphemeralKind::Typing => !is_own && ephemeral.to_others,
            };
            if is_told {
                follower.signal.broadcast_ephemeral(ephemeral, &bytes);
            }
        }
    }

    /// Somebody was added to one or more of these conversations: those who subscribe to all of the user's look there. A hint,
    /// which may name conversations that the user is not in.
    pub(crate) fn joined(&self, user_id: &UserId, conversation_ids: &[ConversationId]) {
        if let Some(signals) = lock(&self.shared.inboxes).of_users.get(user_id) {
            for signal in signals.values() {
                signal.joined(conversation_ids);
            }
        }
    }

    /// Takes note of a head read from storage, if anybody follows.
    pub(super) fn advance_head_of(&self, conversation_id: &ConversationId, head: Position) {
        let log = lock(&self.shared.logs).get(conversation_id).cloned();
        if let Some(log) = log {
            self.advance(&log, head);
        }
    }

    /// Takes note of a head read from storage.
    pub(super) fn advance_head(&self, following: &Following, head: Position) {
        self.advance(&following.log, head);
    }

    fn advance(&self, log: &LiveLog, head: Position) {
        let mut state = lock(&log.state);
        if state.head.is_none_or(|known| head > known) {
            state.head = Some(head);
            self.empty(&mut state);
            state.wake(&log.conversation_id);
        }
    }

    /// Takes over a page read from storage, if it is the newest part of the log and the ring has nothing: those who come next
    /// need not read it again.
    pub(super) fn refill(&self, following: &Following, page: &[EncodedEntry]) {
        let mut state = lock(&following.log.state);
        if state.ring.is_empty() && page.last().is_some_and(|last| state.head == Some(last.sequence.into())) {
            self.push(&mut state, page.to_vec());
        }
    }

    fn push(&self, state: &mut State, frames: Vec<EncodedEntry>) {
        state.used_at = Instant::now();
        let mut grown = 0;
        for frame in frames {
            grown += frame.cost();
            state.ring.push_back(frame);
        }
        state.ring_bytes += grown;
        let used = self.shared.used_bytes.fetch_add(grown, Ordering::Relaxed) + grown;
        let over = used.saturating_sub(self.shared.max_bytes).max(state.ring_bytes.saturating_sub(MAX_RING_BYTES));
        let mut freed = 0;
        while freed < over
            && let Some(oldest) = state.ring.pop_front()
        {
            freed += oldest.cost();
        }
        state.ring_bytes -= freed;
        self.shared.used_bytes.fetch_sub(freed, Ordering::Relaxed);
    }

    fn empty(&self, state: &mut State) {
        self.shared.used_bytes.fetch_sub(state.ring_bytes, Ordering::Relaxed);
        state.ring.clear();
        state.ring.shrink_to_fit();
        state.ring_bytes = 0;
    }
}

impl State {
    fn new() -> Self {
        Self {
            head: None,
            ring: VecDeque::new(),
            ring_bytes: 0,
            followers: HashMap::new(),
            next_follower: 0,
            used_at: Instant::now(),
        }
    }

    fn wake(&self, conversation_id: &ConversationId) {
        for follower in self.followers.values() {
            if !follower.is_told.swap(true, Ordering::AcqRel) {
                follower.signal.moved(conversation_id);
            }
        }
    }
}

impl Following {
    /// The conversation.
    pub(super) fn conversation_id(&self) -> &ConversationId {
        &self.log.conversation_id
    }

    /// What comes after a position: frames of at most about `max_bytes`, but always one if there is one. What moves the head
    /// after this is said by the signal again.
    pub(super) fn after(&self, position: Position, max_bytes: usize) -> Ahead {
        self.follower.is_told.store(false, Ordering::Release);
        let state = lock(&self.log.state);
        if state.head.is_none_or(|head| position >= head) {
            return Ahead::Nothing;
        }
        let Some(first) = state.ring.front().map(|frame| frame.sequence).filter(|first| *first <= position.next())
        else {
            return Ahead::InStorage;
        };
        let mut bytes = 0;
        let next = state.ring.range(first.before().entries_until(position) as usize..);
        let frames = next.take_while(|frame| {
            let fits = bytes < max_bytes;
            bytes += frame.bytes.len();
            fits
        });
        Ahead::Frames(frames.cloned().collect())
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.live.shared.followers.fetch_sub(1, Ordering::AcqRel);
        let mut logs = lock(&self.live.shared.logs);
        let mut state = lock(&self.log.state);
        state.followers.remove(&self.place);
        // Nothing to come back to: a log for every id that was ever asked for would be one too many.
        if state.followers.is_empty() && state.ring.is_empty() {
            logs.remove(&self.log.conversation_id);
        }
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.live.shared.followers.fetch_sub(1, Ordering::AcqRel);
        let mut inboxes = lock(&self.live.shared.inboxes);
        if let Some(signals) = inboxes.of_users.get_mut(&self.user_id) {
            signals.remove(&self.place);
            if signals.is_empty() {
                inboxes.of_users.remove(&self.user_id);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use proptest::prelude::*;
    use time::OffsetDateTime;

    use super::*;
    use crate::domain::{change::member::MemberChange, conversation::Role, event::EventKind, sequence::Sequence};

    fn event(number: i64) -> Event {
        let change = MemberChange { user_id: "u".into(), role: Role::Member, joined_at: OffsetDateTime::UNIX_EPOCH };
        let kind = EventKind::MemberUpdated(change);
        Event {
            conversation_id: "c".into(),
            sequence: Sequence::new(number).unwrap(),
            created_at: OffsetDateTime::UNIX_EPOCH,
            actor_id: "u".into(),
            kind,
        }
    }

    const ENCODE: Encode =
        Encode { entry: |event| Bytes::from(event.sequence.to_string().repeat(50)), ephemeral: |_| Bytes::new() };

    /// What happens to a live log, in any order: batches that continue the head, batches after a gap (another replica wrote),
    /// repeats, heads read from storage, changes, pages put back, and a reader that takes some.
    #[derive(Debug, Clone)]
    enum Step {
        Commit { gap: i64, count: i64 },
        Change,
        Repeat,
        Observe(i64),
        Refill(i64),
        Read,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0..3i64, 1..6i64).prop_map(|(gap, count)| Step::Commit { gap: gap.max(1) - 1, count }),
            Just(Step::Change),
            Just(Step::Repeat),
            (0..3i64).prop_map(Step::Observe),
            (1..9i64).prop_map(Step::Refill),
            Just(Step::Read),
        ];
        prop::collection::vec(step, 1..60)
    }

    proptest! {
        /// Whatever happens, the ring gives only what comes right after the position, in order and without a hole, and a
        /// reader that reads storage when it is told to arrives at the head.
        #[test]
        fn a_reader_never_sees_a_hole(steps in steps(), max_bytes in 0..4000usize) {
            let logs = LiveLogs::new(ENCODE, max_bytes);
            let id = ConversationId::from("c");
            let following = logs.follow(&id, &Arc::new(Signal::new("u".into())));
            let at = |number: i64| Position::new(number).unwrap();
            let (mut committed, mut position) = (0, 0);
            logs.advance_head(&following, at(0));
            for step in steps {
                match step {
                    Step::Commit { gap, count } => {
                        let first = committed + gap + 1;
                        committed += gap + count;
                        logs.append_committed(&id, at(committed), || (first..=committed).map(|n| logs.encode(&event(n))).collect());
                    }
                    Step::Change => {
                        committed += 1;
                        logs.append_committed(&id, at(committed), Vec::new);
                    }
                    Step::Repeat => logs.append_committed(&id, at(committed), || vec![logs.encode(&event(committed))]),
                    Step::Observe(more) => {
                        committed += more;
                        logs.advance_head(&following, at(committed));
                    }
                    Step::Refill(count) => {
                        let page: Vec<_> = ((committed - count + 1).max(1)..=committed).map(|n| logs.encode(&event(n))).collect();
                        logs.refill(&following, &page);
                    }
                    Step::Read => {
                        while position < committed {
                            match following.after(at(position), 300) {
                                Ahead::Frames(frames) => for frame in frames {
                                    prop_assert_eq!(frame.sequence.get(), position + 1);
                                    position = frame.sequence.get();
                                },
                                Ahead::InStorage => position += 1,
                                Ahead::Nothing => prop_assert!(false, "at {} nothing is ahead of {}", position, committed),
                            }
                        }
                    }
                }
                prop_assert!(logs.shared.used_bytes.load(Ordering::Relaxed) <= max_bytes);
            }
            drop(following);
            logs.sweep_once(Instant::now() + IDLE);
            prop_assert_eq!(logs.shared.used_bytes.load(Ordering::Relaxed), 0);
            prop_assert!(lock(&logs.shared.logs).is_empty());
        }
    }
}
