//! The connection to PostgreSQL: a pool whose sessions have the same settings on every cluster, and calls that always end.
//! The statements are in the services (`storage/`).

mod address;
mod canceller;
mod certificates;
mod error;
mod inspection;
mod kept;
mod listener;
mod migrate;
mod notifier;
pub mod outbox;
mod pool;
mod server;
mod session;
mod url;
mod version;

use std::{
    future::Future,
    time::{Duration, Instant},
};

pub use address::Address;
pub use error::Error;
pub use inspection::Inspection;
pub use kept::Kept;
pub use listener::{Listener, Notification};
pub(crate) use migrate::migrate_when_reachable;
pub use migrate::{MigrateError, Schema, migrate};
pub use notifier::Notifier;
pub use server::EncodingError;
pub use session::Session;
use sqlx::{
    PgConnection, Postgres,
    postgres::{PgArguments, PgRow},
    query::{Query, QueryAs},
};
pub use version::VersionError;

use self::{canceller::Canceller, pool::Pool};
use crate::{
    lifecycle::Lifecycle,
    telemetry::metrics::{self, Counter, Histogram, counter, gauge, histogram},
};

/// The address of a database, and the limits of using it. Its `Debug` names the database, never the password.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The address and the credentials.
    pub connect: Address,
    /// Shown in `pg_stat_activity`.
    pub application_name: &'static str,
    /// The size of the pool.
    pub connections: u32,
    /// The timeout of one call, including the wait for a connection.
    pub timeout: Duration,
    /// Plans every statement for its values and the current size of the tables. For tables that grow from empty: a plan cached
    /// in their first minutes scans them sequentially.
    pub plan_anew: bool,
}

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
        Self::with_canceller(Settings { connections: 1, ..self.settings.clone() }, self.canceller.clone())
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

/// Applies a timeout to a database call.
pub async fn bounded<T>(limit: Duration, call: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, Error> {
    match tokio::time::timeout(limit, call).await {
        Ok(outcome) => Ok(outcome?),
        Err(_) => Err(Error::Timeout { limit }),
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

#[cfg(test)]
mod tests {
    use sqlx::postgres::PgConnectOptions;

    use super::*;

    fn settings(connect: &str, timeout: Duration) -> Settings {
        let connect = connect.parse::<PgConnectOptions>().unwrap().into();
        Settings { connect, application_name: "test", connections: 1, timeout, plan_anew: false }
    }

    #[tokio::test]
    async fn a_refused_connection_means_that_nothing_was_sent() {
        let settings = settings("postgres://test@127.0.0.1:1/none", Duration::from_millis(500));
        let database = Database::new(settings.clone());
        for error in [database.ping().await.unwrap_err(), settings.open().await.unwrap_err()] {
            assert!(matches!(error, Error::NotConnected(_)) && !error.outcome_is_unknown(), "{error:?}");
        }
    }

    #[tokio::test]
    async fn a_caller_that_hangs_up_costs_no_connection() {
        let url = std::env::var("TEST_DATABASE_URL").expect("TEST_DATABASE_URL is not set: run `make test`");
        let database = Database::new(settings(&url, Duration::from_secs(10)));
        let backend = async || -> i32 {
            let (backend,) = database.fetch_one(sqlx::query_as("SELECT pg_backend_pid()")).await.unwrap();
            backend
        };
        let before = backend().await;
        for _ in 0..5 {
            let sleep = database.execute(sqlx::query("SELECT pg_sleep(0.1)"));
            tokio::time::timeout(Duration::from_millis(20), sleep).await.unwrap_err();
        }
        assert_eq!(backend().await, before);
        database.close().await;
    }

    #[tokio::test]
    async fn a_call_that_runs_out_of_time_ends_and_the_next_one_works() {
        let url = std::env::var("TEST_DATABASE_URL").expect("TEST_DATABASE_URL is not set: run `make test`");
        let database = Database::new(settings(&url, Duration::from_millis(300)));
        // The server or this process ends it: both have the same limit.
        let error = database.execute(sqlx::query("SELECT pg_sleep(5)")).await.unwrap_err();
        assert!(error.is_outage(), "{error:?}");
        database.ping().await.unwrap();
        database.close().await;
    }
}
