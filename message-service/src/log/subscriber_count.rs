//! The number of subscribers of this process. While it is 0 nothing has to be read for them.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::Notify;

/// Counts registrations at live logs and at the membership feed. Cheap to clone; clones share the count.
#[derive(Debug, Clone, Default)]
pub(super) struct SubscriberCount {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    count: AtomicUsize,
    /// The count has left 0.
    first: Notify,
}

/// One registration, counted until this is dropped.
#[derive(Debug)]
pub(super) struct Counted {
    shared: Arc<Shared>,
}

impl SubscriberCount {
    /// Counts one more.
    pub(super) fn add(&self) -> Counted {
        if self.shared.count.fetch_add(1, Ordering::AcqRel) == 0 {
            self.shared.first.notify_one();
        }
        Counted { shared: self.shared.clone() }
    }

    /// Returns true while there are subscribers.
    pub(super) fn is_any(&self) -> bool {
        self.shared.count.load(Ordering::Acquire) > 0
    }

    /// Waits for a subscriber. Only one task may wait at a time.
    pub(super) async fn wait_for_any(&self) {
        while !self.is_any() {
            self.shared.first.notified().await;
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.shared.count.fetch_sub(1, Ordering::AcqRel);
    }
}
