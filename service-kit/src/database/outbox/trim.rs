//! Keeps an outbox short.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use sqlx::AssertSqlSafe;

use super::super::{Database, Error};
use crate::lifecycle::Lifecycle;

/// The interval of deletions, and the least number of them within the retention.
const EVERY: Duration = Duration::from_secs(30);
const TIMES: u32 = 10;

/// The most rows that one statement deletes.
const MAX_ROWS: i64 = 10_000;

const HORIZON: &str = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text";

/// A point in the history of transactions: all below it had ended when it was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Horizon(String);

/// Deletes the rows of transactions that had ended `retention` ago, so that readers have that long to read them. Replicas that
/// do so at the same time share the work.
#[derive(Debug)]
pub struct Trimmer {
    database: Database,
    retention: Duration,
    below: String,
    foreign: String,
    /// The horizons of the last `retention`, oldest first.
    horizons: VecDeque<(Instant, Horizon)>,
}

impl Trimmer {
    /// Prepares to trim a table, such as `parlance_user.outbox`.
    pub fn new(database: Database, table: &'static str, retention: Duration) -> Self {
        // Both along the index on xact_id.
        let delete = |condition: &str| {
            format!(
                "DELETE FROM {table}
                 WHERE outbox_id IN (
                     SELECT outbox_id FROM {table} WHERE {condition} ORDER BY xact_id LIMIT $1 FOR UPDATE SKIP LOCKED
                 )"
            )
        };
        Self {
            database,
            retention,
            below: delete("xact_id < $2::xid8"),
            // A restore copied these from another server. They would stay until this one has had as many
            // transactions.
            foreign: delete("xact_id >= pg_snapshot_xmax(pg_current_snapshot())"),
            horizons: VecDeque::new(),
        }
    }

    /// Trims until the lifecycle is closing. `on_trimmed` is called with the number of rows that were deleted.
    pub async fn run(mut self, lifecycle: Lifecycle, mut on_trimmed: impl FnMut(u64)) {
        let every = EVERY.min(self.retention / TIMES);
        let work = async {
            loop {
                tokio::time::sleep(every).await;
                if let Err(error) = self.trim(Instant::now(), &mut on_trimmed).await {
                    tracing::debug!(cause = &error as &dyn std::error::Error, "the outbox was not trimmed");
                }
            }
        };
        lifecycle.closing().run_until_cancelled(work).await;
    }

    async fn trim(&mut self, now: Instant, on_trimmed: &mut impl FnMut(u64)) -> Result<(), Error> {
        let horizon = self.horizon().await?;
        self.horizons.push_back((now, horizon));
        let Some(below) = newest_older_than(&mut self.horizons, now, self.retention) else { return Ok(()) };
        loop {
            let deleted = self.delete_below(&below).await?;
            on_trimmed(deleted);
            if deleted < MAX_ROWS as u64 {
                return Ok(());
            }
        }
    }

    /// Returns the current horizon.
    ///
    /// # Errors
    /// The database cannot be reached or fails.
    pub async fn horizon(&self) -> Result<Horizon, Error> {
        let (xmin,): (String,) = self.database.fetch_one(sqlx::query_as(HORIZON)).await?;
        Ok(Horizon(xmin))
    }

    /// Deletes rows of transactions below the horizon and rows of another server, at most 10,000 of each, and returns their
    /// number.
    ///
    /// # Errors
    /// The database cannot be reached or fails.
    pub async fn delete_below(&self, below: &Horizon) -> Result<u64, Error> {
        let query = sqlx::query(AssertSqlSafe(self.below.as_str())).bind(MAX_ROWS).bind(&below.0);
        let old = self.database.execute(query).await?;
        let foreign = self.database.execute(sqlx::query(AssertSqlSafe(self.foreign.as_str())).bind(MAX_ROWS)).await?;
        Ok(old + foreign)
    }
}

/// Returns the newest horizon that is old enough, and drops those before it.
fn newest_older_than(
    horizons: &mut VecDeque<(Instant, Horizon)>,
    now: Instant,
    retention: Duration,
) -> Option<Horizon> {
    let is_old = |taken: &Instant| now.saturating_duration_since(*taken) >= retention;
    let old = horizons.iter().take_while(|(taken, _)| is_old(taken)).count();
    horizons.drain(..old.saturating_sub(1));
    horizons.front().filter(|_| old > 0).map(|(_, horizon)| horizon.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_kept_for_the_whole_retention() {
        let began = Instant::now();
        let retention = Duration::from_secs(100);
        let mut horizons = VecDeque::new();
        let mut below = Vec::new();
        for second in (0..=150).step_by(30) {
            let now = began + Duration::from_secs(second);
            horizons.push_back((now, Horizon(second.to_string())));
            below.push(newest_older_than(&mut horizons, now, retention).map(|Horizon(taken)| taken));
        }
        let seconds: Vec<_> = below.iter().map(Option::as_deref).collect();
        assert_eq!(seconds, [None, None, None, None, Some("0"), Some("30")]);
        assert_eq!(horizons.front().unwrap().1, Horizon("30".to_owned()));
    }
}
