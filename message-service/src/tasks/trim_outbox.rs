//! Deletes outbox rows of transactions that ended longer ago than the retention.

use std::{collections::VecDeque, time::Duration};

use service_kit::{lifecycle::Lifecycle, telemetry::metrics::counter};
use tokio::time::Instant;

use crate::storage::{Error, Store, outbox::Horizon};

/// The interval of trimming, unless a tenth of the retention is shorter.
const INTERVAL: Duration = Duration::from_secs(30);
const TRIMS_PER_RETENTION: u32 = 10;

/// Trims until the lifecycle is closing. Readers have `retention` to read a row after its transaction has ended.
pub(crate) async fn run(store: Store, retention: Duration, lifecycle: Lifecycle) {
    counter!("parlance_outbox_trimmed_total").increment(0);
    let work = async {
        let mut horizons = VecDeque::new();
        loop {
            tokio::time::sleep(INTERVAL.min(retention / TRIMS_PER_RETENTION)).await;
            if let Err(error) = trim(&store, retention, &mut horizons).await {
                tracing::debug!(cause = &error as &dyn std::error::Error, "could not trim the outbox");
            }
        }
    };
    lifecycle.closing().run_until_cancelled(work).await;
}

async fn trim(store: &Store, retention: Duration, horizons: &mut VecDeque<(Instant, Horizon)>) -> Result<(), Error> {
    horizons.push_back((Instant::now(), store.horizon().await?));
    // The newest horizon that is old enough covers all older ones.
    let old_enough = horizons.iter().take_while(|(taken, _)| taken.elapsed() >= retention).count();
    horizons.drain(..old_enough.saturating_sub(1));
    if let Some((_, below)) = horizons.front().filter(|_| old_enough > 0) {
        loop {
            let trimmed = store.trim_outbox(below).await?;
            counter!("parlance_outbox_trimmed_total").increment(trimmed);
            if !Store::is_full_trim(trimmed) {
                break;
            }
        }
    }
    Ok(())
}
