//! Wakes the subscribers of logs whose heads have moved, apart from the commits that moved them: a writer acknowledges without
//! regard to the number of subscribers, and no log is locked while they are woken.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use service_kit::{lifecycle::Lifecycle, sync::lock};
use tokio::sync::Notify;

use super::state::{LiveLog, MAX_PART, State};

/// The logs whose subscribers must be woken, each once.
#[derive(Debug, Default)]
pub(super) struct Waker {
    due: Mutex<VecDeque<Due>>,
    any_due: Notify,
}

#[derive(Debug)]
struct Due {
    log: Arc<LiveLog>,
    /// The subscribers up to this key are woken.
    woken: Option<u64>,
}

impl Waker {
    /// Makes the subscribers of a log due, whose state is locked. Those that come later read the head themselves.
    pub(super) fn wake(&self, log: &Arc<LiveLog>, state: &mut State) {
        if state.subscribers.is_empty() {
            return;
        }
        if std::mem::replace(&mut state.is_waking, true) {
            state.has_moved = true;
            return;
        }
        lock(&self.due).push_back(Due { log: log.clone(), woken: None });
        self.any_due.notify_one();
    }

    /// Wakes whatever is due, until the lifecycle is closing: then all streams end.
    pub(super) async fn run(&self, lifecycle: &Lifecycle) {
        let work = async {
            loop {
                self.any_due.notified().await;
                let mut woken = 0;
                while let Some(count) = self.wake_part() {
                    woken += count;
                    if woken >= MAX_PART {
                        woken = 0;
                        // Other tasks, those that are woken among them, go on in between.
                        tokio::task::yield_now().await;
                    }
                }
            }
        };
        lifecycle.closing().run_until_cancelled(work).await;
    }

    /// Wakes some subscribers of the log that is due first, and puts it behind the others if it has more. Returns their number,
    /// or `None` if no log was due.
    pub(super) fn wake_part(&self) -> Option<usize> {
        let Due { log, woken } = lock(&self.due).pop_front()?;
        let (part, again) = {
            let mut state = log.lock();
            let part = state.subscribers.part(woken);
            let again = match part.last {
                Some(_) => Some(part.last),
                // The head has moved: those that were woken first may have read before.
                None if std::mem::take(&mut state.has_moved) => Some(None),
                None => None,
            };
            state.is_waking = again.is_some();
            (part, again)
        };
        for subscriber in &part.subscribers {
            subscriber.wake(&log.conversation_id);
        }
        if let Some(woken) = again {
            lock(&self.due).push_back(Due { log, woken });
        }
        Some(part.subscribers.len())
    }
}
