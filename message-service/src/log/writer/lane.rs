//! The lane of locked conversations: one that is locked elsewhere (an operator's open transaction, a stuck replica) must not
//! stall its neighbours, so its writes wait here, in order, until the lock is free or their deadlines have passed.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use service_kit::{lifecycle::Lifecycle, sync::lock};
use tokio::sync::Notify;

use super::{
    batch::Batch,
    given_up::GivenUp,
    storer::Storer,
    work::{Work, WriteError},
};
use crate::domain::ids::ConversationId;

/// The pause between attempts on a locked conversation.
const RETRY: Duration = Duration::from_millis(25);

/// The time that a conversation stays in the lane after it was last found locked. Outside the lane each try costs its
/// neighbours the wait for the lock, and callers that gave up come again.
const KEPT: Duration = Duration::from_mins(1);

/// The most conversations in the lane that stay there without a waiting write.
const MAX_KEPT: usize = 1024;

/// The queues of locked conversations. A conversation stays listed while its writes are being retried, so that later ones
/// queue up behind them, and for a while after. Bounded by the permits of the writes and by [`MAX_KEPT`].
#[derive(Debug, Clone)]
pub(super) struct Lane {
    shared: Arc<Shared>,
    given_up: GivenUp,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    locked: HashMap<ConversationId, Queue>,
    closed: bool,
}

/// The waiting writes of a conversation in the lane.
#[derive(Debug)]
struct Queue {
    works: VecDeque<Work>,
    /// Some of its writes are being retried.
    is_retried: bool,
    /// The last time at which it was found locked.
    locked_at: Instant,
}

/// The writes of a conversation that are retried together, and those behind them.
#[derive(Debug)]
pub(super) struct Retry {
    pub(super) batch: Batch,
    pub(super) behind: VecDeque<Work>,
}

impl Lane {
    /// Creates an empty lane of the writer that shares `given_up`.
    pub(super) fn new(given_up: &GivenUp) -> Self {
        Self { shared: Arc::default(), given_up: given_up.clone() }
    }

    /// Takes over writes that were found locked.
    pub(super) fn take(&self, works: Vec<Work>, now: Instant) {
        if works.is_empty() {
            return;
        }
        {
            let mut state = self.lock();
            for work in works {
                let queue = state.locked.entry(work.conversation_id().clone());
                let queue =
                    queue.or_insert_with(|| Queue { works: VecDeque::new(), is_retried: false, locked_at: now });
                queue.works.push_back(work);
            }
        }
        self.shared.changed.notify_one();
    }

    /// Takes over the waiting writes whose conversation is in the lane already.
    pub(super) fn divert(&self, waiting: &mut VecDeque<Work>, now: Instant) {
        let mut state = self.lock();
        if state.locked.is_empty() {
            return;
        }
        state.locked.retain(|_, queue| !queue.is_over(now));
        let count = waiting.len();
        for work in std::mem::take(waiting) {
            match state.locked.get_mut(work.conversation_id()) {
                Some(queue) => queue.works.push_back(work),
                None => waiting.push_back(work),
            }
        }
        drop(state);
        if waiting.len() < count {
            self.shared.changed.notify_one();
        }
    }

    /// Ends the lane once it is empty, after the writer has ended.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.shared.changed.notify_one();
    }

    /// Retries locked writes until the lane is closed and empty.
    pub(super) async fn run(self, mut storer: Storer, lifecycle: Lifecycle) {
        let killed = lifecycle.killed().clone();
        let work = async {
            loop {
                let ids = self.waiting();
                if ids.is_empty() {
                    if self.lock().closed {
                        break;
                    }
                    self.shared.changed.notified().await;
                    continue;
                }
                for id in ids {
                    self.attempt(&mut storer, &id).await;
                }
                tokio::time::sleep(RETRY).await;
            }
        };
        killed.run_until_cancelled(Box::pin(work)).await;
    }

    /// Retries the writes of one conversation; those that are still locked go back to the front.
    async fn attempt(&self, storer: &mut Storer, id: &ConversationId) {
        let Some(Retry { batch, behind }) = self.begin(id, storer.now()) else { return };
        let is_run = !batch.is_empty();
        let locked = if is_run { storer.store(batch, true).await } else { Vec::new() };
        self.end(id, locked, behind, is_run, storer.now());
    }

    /// Returns the conversations with waiting writes.
    pub(super) fn waiting(&self) -> Vec<ConversationId> {
        let state = self.lock();
        let waiting = state.locked.iter().filter(|(_, queue)| !queue.works.is_empty());
        waiting.map(|(id, _)| id.clone()).collect()
    }

    /// Takes the writes of a conversation out of its queue.
    pub(super) fn begin(&self, id: &ConversationId, now: Instant) -> Option<Retry> {
        let mut behind = {
            let mut state = self.lock();
            let queue = state.locked.get_mut(id)?;
            queue.is_retried = true;
            std::mem::take(&mut queue.works)
        };
        self.given_up.refuse(&mut behind, now);
        let mut batch = Batch::gather(&mut behind);
        batch.expire(now, &WriteError::Busy, &self.given_up);
        Some(Retry { batch, behind })
    }

    /// Puts back the writes that are still locked, and those behind them. A conversation that was not found locked leaves
    /// the lane.
    pub(super) fn end(
        &self,
        id: &ConversationId,
        locked: Vec<Work>,
        behind: VecDeque<Work>,
        is_run: bool,
        now: Instant,
    ) {
        let mut state = self.lock();
        let is_crowded = state.locked.len() > MAX_KEPT;
        let Some(queue) = state.locked.get_mut(id) else { return };
        queue.is_retried = false;
        let is_free = is_run && locked.is_empty();
        if !locked.is_empty() {
            queue.locked_at = now;
        }
        let mut back = VecDeque::from(locked);
        back.extend(behind);
        back.append(&mut queue.works);
        queue.works = back;
        if queue.works.is_empty() && (is_free || is_crowded) {
            state.locked.remove(id);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        lock(&self.shared.state)
    }
}

impl Queue {
    /// Returns true if the conversation need not stay in the lane.
    fn is_over(&self, now: Instant) -> bool {
        self.works.is_empty() && !self.is_retried && now >= self.locked_at + KEPT
    }
}
