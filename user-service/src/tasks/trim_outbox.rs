//! Keeps the outbox short: rows of transactions that had ended five minutes ago go.

use std::{collections::VecDeque, time::Duration};

use service_kit::lifecycle::Lifecycle;
use tokio::time::Instant;

use crate::storage::{Error, Horizon, Store};

/// Readers have this long to read a row after its transaction has ended.
const KEEP: Duration = Duration::from_mins(5);
const EVERY: Duration = Duration::from_secs(30);

/// Trims until the lifecycle is closing.
pub(crate) async fn run(store: Store, lifecycle: Lifecycle) {
    let work = async {
        let mut horizons = VecDeque::new();
        loop {
            tokio::time::sleep(EVERY).await;
            if let Err(error) = trim(&store, &mut horizons).await {
                tracing::debug!(cause = &error as &dyn std::error::Error, "the outbox was not trimmed");
            }
        }
    };
    lifecycle.closing().run_until_cancelled(work).await;
}

async fn trim(store: &Store, horizons: &mut VecDeque<(Instant, Horizon)>) -> Result<(), Error> {
    horizons.push_back((Instant::now(), store.horizon().await?));
    // The newest of those that are old enough; older ones say less.
    let old_enough = horizons.iter().take_while(|(taken, _)| taken.elapsed() >= KEEP).count();
    horizons.drain(..old_enough.saturating_sub(1));
    if let Some((_, below)) = horizons.front().filter(|_| old_enough > 0) {
        while Store::is_full_trim(store.trim_outbox(below).await?) {}
    }
    Ok(())
}
