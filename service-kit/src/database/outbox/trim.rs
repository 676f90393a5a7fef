//! Keeps an outbox short.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use sqlx::AssertSqlSafe;

use super::super::{Database, Error};
use crate::{causes::causes, lifecycle::Lifecycle};

/// The interval of deletions, and the least number of them within the retention.
const EVERY: Duration = Duration::from_secs(30);
const TIMES: u32 = 10;

/// The most rows that one statement deletes.
const MAX_ROWS: i64 = 10_000;

/// A pass begins at the start of the outbox this often, in case that another replica was interrupted in its own.
const PASSES_TO_START: u32 = 64;

const HORIZON: &str = "SELECT pg_current_snapshot()::text";

/// A point in the history of transactions: the snapshot that was taken there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Horizon(String);

/// Deletes the rows of transactions that had ended `retention` ago, so that readers have that long to read them. Replicas that
/// do so at the same time share the work. A transaction that stays open keeps its own rows only.
///
/// A pass continues where the last one ended: while a snapshot somewhere is old, the entries of deleted rows stay in the index.
#[derive(Debug)]
pub struct Trimmer {
    database: Database,
    retention: Duration,
    ended: String,
    late: String,
    foreign: String,
    /// The horizon up to which everything is deleted.
    done: Option<Horizon>,
    passes: u32,
    /// The horizons of the last `retention`, oldest first.
    horizons: VecDeque<(Instant, Horizon)>,
}

impl Trimmer {
    /// Prepares to trim a table, such as `parlance_user.outbox`.
    pub fn new(database: Database, table: &'static str, retention: Duration) -> Self {
        // All along the index on xact_id.
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
            ended: delete(
                "xact_id < pg_snapshot_xmax($2::pg_snapshot)
                        AND xact_id >= coalesce(pg_snapshot_xmax($3::pg_snapshot), '0')
                        AND xact_id <> ALL (ARRAY(SELECT pg_snapshot_xip($2::pg_snapshot)))",
            ),
            // Open at the horizon of the last pass, ended since.
            late: delete(
                "xact_id = ANY (ARRAY(SELECT pg_snapshot_xip($3::pg_snapshot)))
                        AND pg_visible_in_snapshot(xact_id, $2::pg_snapshot)",
            ),
            // A restore copied these from another server. They would stay until this one has had as many
            // transactions.
            foreign: delete("xact_id >= pg_snapshot_xmax(pg_current_snapshot())"),
            done: None,
            passes: 0,
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
                    tracing::debug!(cause = causes(&error), "the outbox was not trimmed");
                }
            }
        };
        lifecycle.closing().run_until_cancelled(Box::pin(work)).await;
    }

    async fn trim(&mut self, now: Instant, on_trimmed: &mut impl FnMut(u64)) -> Result<(), Error> {
        let horizon = self.horizon().await?;
        self.horizons.push_back((now, horizon));
        let Some(below) = newest_older_than(&mut self.horizons, now, self.retention) else { return Ok(()) };
        self.passes = self.passes.wrapping_add(1);
        let done = self.done.take().filter(|_| !self.passes.is_multiple_of(PASSES_TO_START));
        loop {
            let deleted = self.delete_between(done.as_ref(), &below).await?;
            on_trimmed(deleted);
            if deleted < MAX_ROWS as u64 {
                self.done = Some(below);
                return Ok(());
            }
        }
    }

    /// Returns the current horizon.
    ///
    /// # Errors
    /// The database cannot be reached or fails.
    pub async fn horizon(&self) -> Result<Horizon, Error> {
        let (snapshot,): (String,) = self.database.fetch_one(sqlx::query_as(HORIZON)).await?;
        Ok(Horizon(snapshot))
    }

    /// Deletes rows of transactions that had ended at the horizon and rows of another server, at most 10,000 of each, and
    /// returns their number.
    ///
    /// # Errors
    /// The database cannot be reached or fails.
    pub async fn delete_below(&self, below: &Horizon) -> Result<u64, Error> {
        self.delete_between(None, below).await
    }

    async fn delete_between(&self, done: Option<&Horizon>, below: &Horizon) -> Result<u64, Error> {
        let mut deleted = 0;
        for statement in [&self.ended, &self.late] {
            let query = sqlx::query(AssertSqlSafe(statement.as_str())).bind(MAX_ROWS).bind(&below.0);
            deleted += self.database.execute(query.bind(done.map(|done| done.0.as_str()))).await?;
        }
        let foreign = self.database.execute(sqlx::query(AssertSqlSafe(self.foreign.as_str())).bind(MAX_ROWS)).await?;
        Ok(deleted + foreign)
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
