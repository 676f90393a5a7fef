//! Keeps the outbox short.

use service_kit::lifecycle::Lifecycle;

use crate::storage::Store;

/// Trims until the lifecycle is closing.
pub(crate) async fn run(store: Store, lifecycle: Lifecycle) {
    store.trimmer().run(lifecycle, |_| {}).await;
}
