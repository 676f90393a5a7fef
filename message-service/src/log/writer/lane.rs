//! The lane of locked conversations: one that is locked elsewhere (an operator's open transaction, a stuck replica) must not
//! stall its neighbours, so its writes wait here, in order, until the lock is free or their deadlines have passed.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use service_kit::{lifecycle::Lifecycle, sync::lock};
use tokio::sync::Notify;

use super::{
    batch::Batch,
    storer::Storer,
    work::{Work, WriteError},
};
use crate::domain::ids::ConversationId;

/// The pause between attempts on a locked conversation.
const RETRY: Duration = Duration::from_millis(25);

/// The queues of locked conversations. A conversation stays listed while its writes are being retried, so that later ones
/// queue up behind them. Bounded by the permits of the writes.
#[derive(Debug, Clone, Default)]
pub(super) struct Lane {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    locked: HashMap<ConversationId, VecDeque<Work>>,
    closed: bool,
}

impl Lane {
    /// Takes over writes that were found locked.
    pub(super) fn take(&self, works: Vec<Work>) {
        if works.is_empty() {
            return;
        }
        {
            let mut state = self.lock();
            for work in works {
                state.locked.entry(work.conversation_id().clone()).or_default().push_back(work);
            }
        }
        self.shared.changed.notify_one();
    }

    /// Takes over the waiting writes whose conversation is in the lane already.
    pub(super) fn divert(&self, waiting: &mut VecDeque<Work>) {
        let mut state = self.lock();
        if state.locked.is_empty() {
            return;
        }
        for work in std::mem::take(waiting) {
            match state.locked.get_mut(work.conversation_id()) {
                Some(queue) => queue.push_back(work),
                None => waiting.push_back(work),
            }
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
                let ids: Vec<ConversationId> = self.lock().locked.keys().cloned().collect();
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
        let mut taken = match self.lock().locked.get_mut(id) {
            Some(queue) => std::mem::take(queue),
            None => return,
        };
        let mut batch = Batch::gather(&mut taken);
        batch.expire(storer.now(), &WriteError::Busy);
        let mut back: VecDeque<Work> =
            if batch.is_empty() { VecDeque::new() } else { storer.store(batch, true).await.into() };
        back.extend(taken);
        let mut state = self.lock();
        if let Some(queue) = state.locked.get_mut(id) {
            back.append(queue);
            if back.is_empty() {
                state.locked.remove(id);
            } else {
                *queue = back;
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        lock(&self.shared.state)
    }
}
