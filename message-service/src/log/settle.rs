//! After a write in doubt: it may have been committed, or still be, without a writer that hands it over. So the heads of its
//! conversations are read again until nothing of it can come any more, and whoever follows them hears of what is there.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use service_kit::lifecycle::Lifecycle;
use tokio::sync::Notify;

use super::live::LiveLogs;
use crate::{domain::conversation::Id, storage::Store};

const READ_EVERY: Duration = Duration::from_millis(250);

/// The most heads read at a time.
const MAX_READ: usize = 1000;

/// Conversations with a write in doubt, each once. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Unsettled {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Since when each is in doubt.
    since: Mutex<HashMap<Id, Instant>>,
    changed: Notify,
}

impl Unsettled {
    /// Notes that a write to these conversations has just ended in doubt.
    pub(super) fn add(&self, conversation_ids: Vec<Id>) {
        let now = Instant::now();
        self.lock().extend(conversation_ids.into_iter().map(|id| (id, now)));
        self.shared.changed.notify_one();
    }

    /// Reads heads until the lifecycle is closing. `timeout` is the longest that the database goes on with a statement whose
    /// client has gone: what was not committed by then never will be.
    pub(super) async fn settle(self, store: Store, live: LiveLogs, timeout: Duration, lifecycle: Lifecycle) {
        let work = async {
            loop {
                let ids: Vec<Id> = self.lock().keys().take(MAX_READ).cloned().collect();
                if ids.is_empty() {
                    self.shared.changed.notified().await;
                    continue;
                }
                let asked = Instant::now();
                if let Ok(heads) = store.find_heads(&ids).await {
                    for (id, head) in &heads {
                        live.reached(id, *head);
                    }
                    let mut since = self.lock();
                    for id in &ids {
                        if since.get(id).is_some_and(|since| *since + timeout < asked) {
                            since.remove(id);
                        }
                    }
                }
                tokio::time::sleep(READ_EVERY).await;
            }
        };
        lifecycle.closing().run_until_cancelled(work).await;
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Id, Instant>> {
        self.shared.since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
