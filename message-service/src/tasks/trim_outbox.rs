//! Keeps the outbox short.

use std::time::Duration;

use service_kit::{lifecycle::Lifecycle, telemetry::metrics::counter};

use crate::storage::Store;

/// Trims until the lifecycle is closing. Rows are kept for `retention`, so that readers have that long to read them.
pub(crate) async fn run(store: Store, retention: Duration, lifecycle: Lifecycle) {
    let trimmed = counter!("parlance_outbox_trimmed_total");
    trimmed.increment(0);
    store.trimmer(retention).run(lifecycle, |rows| trimmed.increment(rows)).await;
}
