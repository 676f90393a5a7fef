//! Calls over a pool of sessions.

use std::time::{Duration, Instant};

use sqlx::{
    PgConnection, Postgres,
    postgres::{PgArguments, PgRow},
    query::{Query, QueryAs},
};

use super::{Error, Settings, bounded, canceller::Canceller, kept::Kept, pool::Pool, server};
use crate::{
    lifecycle::Lifecycle,
    telemetry::metrics::{self, Counter, Histogram, counter, gauge, histogram},
};

/// A pool of connections. Cheap to clone. Every call of it ends within the timeout; a call that timed out is cancelled at the
/// server, and its connection is closed, unless the call ends by itself at once.
#[derive(Debug, Clone)]
pub struct Database {
    pool: Pool,
    settings: Settings,
    canceller: Canceller,
    metrics: PoolMetrics,
}

/// The metrics of a pool.
#[derive(Debug, Clone)]
struct PoolMetrics {
    of: &'static str,
    waited: Histogram,
    called: Histogram,
}

impl PoolMetrics {
    fn new(of: &'static str) -> Self {
        let waited = histogram!("parlance_database_wait_seconds", "pool" => of);
        let called = histogram!("parlance_database_call_seconds", "pool" => of);
        let metrics = Self { of, waited, called };
        metrics.errors(Error::TIMEOUT).increment(0);
        metrics
    }

    fn failed(&self, error: &Error) {
        self.errors(error.kind()).increment(1);
    }

    fn errors(&self, kind: &'static str) -> Counter {
        counter!("parlance_database_errors_total", "pool" => self.of, "kind" => kind)
    }
}

impl Database {
    /// Makes a pool that connects when it is first used.
    pub fn new(settings: Settings) -> Self {
        let canceller = Canceller::new(&settings);
        Self::with_canceller(settings, canceller)
    }

    fn with_canceller(settings: Settings, canceller: Canceller) -> Self {
        let pool = Pool::new(settings.clone(), canceller.clone());
        let metrics = PoolMetrics::new(settings.application_name);
        Self { pool, settings, canceller, metrics }
    }

    /// Returns one more connection to the same database, for a task that must not wait while calls hold all of the pool.
    #[must_use]
    pub fn beside(&self) -> Self {
        self.beside_within(self.settings.timeout)
    }

    /// Returns the same, with calls that end within `limit` if that is shorter: a caller that gives up first would not see
    /// the cause.
    #[must_use]
    pub(crate) fn beside_within(&self, limit: Duration) -> Self {
        let timeout = limit.min(self.settings.timeout);
        Self::with_canceller(Settings { connections: 1, timeout, ..self.settings.clone() }, self.canceller.clone())
    }

    /// Returns a connection outside the pool that a task keeps, whose calls end within the timeout.
    pub fn keep(&self, application_name: &'static str, timeout: Duration) -> Kept {
        let settings = Settings { application_name, timeout, ..self.settings.clone() };
        Kept::new(settings, self.canceller.clone())
    }

    /// Returns the settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Returns all rows, in the order of the statement.
    pub async fn fetch_all<O>(&self, query: QueryAs<'_, Postgres, O, PgArguments>) -> Result<Vec<O>, Error>
    where
        O: Send + Unpin + for<'r> sqlx::FromRow<'r, PgRow>,
    {
        self.call(async |connection, limit| bounded(limit, query.fetch_all(connection)).await).await
    }

    /// Returns the first row, if there is one.
    pub async fn fetch_optional<O>(&self, query: QueryAs<'_, Postgres, O, PgArguments>) -> Result<Option<O>, Error>
    where
        O: Send + Unpin + for<'r> sqlx::FromRow<'r, PgRow>,
    {
        self.call(async |connection, limit| bounded(limit, query.fetch_optional(connection)).await).await
    }

    /// Returns the row of a statement that always returns one.
    pub async fn fetch_one<O>(&self, query: QueryAs<'_, Postgres, O, PgArguments>) -> Result<O, Error>
    where
        O: Send + Unpin + for<'r> sqlx::FromRow<'r, PgRow>,
    {
        self.call(async |connection, limit| bounded(limit, query.fetch_one(connection)).await).await
    }

    /// Runs a statement and returns the number of rows that it changed.
    pub async fn execute(&self, query: Query<'_, Postgres, PgArguments>) -> Result<u64, Error> {
        self.call(async |connection, limit| bounded(limit, query.execute(connection)).await)
            .await
            .map(|done| done.rows_affected())
    }

    /// Checks that the database answers and accepts writes.
    ///
    /// # Errors
    /// It does not.
    pub async fn ping(&self) -> Result<(), Error> {
        self.call(async |connection, limit| server::check_writable(connection, limit).await).await
    }

    /// Drops the idle connections. To be called in an outage: they may be broken, and a call that finds out has an unknown
    /// outcome.
    pub fn drop_idle(&self) {
        self.pool.drop_idle();
    }

    /// Closes every connection, waiting for those in use.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Makes one call over a connection of the pool, within the timeout.
    async fn call<T>(
        &self,
        call: impl AsyncFnOnce(&mut PgConnection, Duration) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let outcome = async {
            let asked = Instant::now();
            let mut lease = self.pool.lease().await?;
            self.metrics.waited.record(asked.elapsed());
            let began = Instant::now();
            let outcome = call(lease.session()?.connection(), self.settings.timeout).await;
            self.metrics.called.record(began.elapsed());
            lease.end(outcome)
        };
        outcome.await.inspect_err(|error| self.metrics.failed(error))
    }

    /// Keeps the gauges of the pool up to date until the lifecycle is closing.
    pub fn watch(&self, lifecycle: &Lifecycle) {
        let (pool, of) = (self.pool.clone(), self.settings.application_name);
        gauge!("parlance_database_connections_max", "pool" => of).set(self.settings.connections);
        let used = gauge!("parlance_database_connections", "pool" => of, "state" => "used");
        let idle = gauge!("parlance_database_connections", "pool" => of, "state" => "idle");
        metrics::watch(lifecycle, move || {
            let (in_use, free) = pool.count();
            idle.set(free as f64);
            used.set(in_use as f64);
        });
    }
}

/// Warns of server settings under which acknowledged writes can be lost.
pub(crate) async fn warn_of_unsafe_settings(database: &Database) -> Result<(), Error> {
    let (fsync, full_page_writes): (String, String) = database
        .fetch_one(sqlx::query_as("SELECT current_setting('fsync'), current_setting('full_page_writes')"))
        .await?;
    for (name, value) in [("fsync", fsync), ("full_page_writes", full_page_writes)] {
        if value != "on" {
            tracing::warn!(
                setting = name,
                value,
                "PostgreSQL runs with a setting under which acknowledged writes can be lost"
            );
        }
    }
    Ok(())
}
