//! The connection to PostgreSQL: a pool whose sessions have the same settings on every cluster, and calls that always end.
//! The statements are in the services (`storage/`).

mod address;
mod certificates;
mod error;
mod inspection;
mod listener;
mod migrate;
mod notifier;
pub mod outbox;
mod server;
mod url;
mod version;

use std::{
    future::Future,
    time::{Duration, Instant},
};

pub use address::Address;
pub use error::Error;
pub use inspection::Inspection;
pub use listener::{Listener, Notification};
pub(crate) use migrate::migrate_when_reachable;
pub use migrate::{MigrateError, Schema, migrate};
pub use notifier::Notifier;
pub use server::EncodingError;
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection, PgPool, Postgres,
    pool::PoolConnection,
    postgres::{PgArguments, PgConnectOptions, PgPoolOptions, PgRow},
    query::{Query, QueryAs},
};
use tokio::runtime::Handle;
pub use version::VersionError;

use crate::{
    lifecycle::Lifecycle,
    telemetry::metrics::{self, Counter, Histogram, counter, gauge, histogram},
};

/// A connection that has been idle for longer is pinged before it is used.
const IDLE_BEFORE_PING: Duration = Duration::from_secs(30);

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

/// A pool of connections. Cheap to clone. Every call of it ends within the timeout; a connection whose call timed out is
/// closed, since its state is unknown.
#[derive(Debug, Clone)]
pub struct Database {
    pool: PgPool,
    settings: Settings,
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
        let session = settings.clone();
        let pool = PgPoolOptions::new()
            .max_connections(settings.connections)
            .min_connections(settings.connections.min(2))
            .acquire_timeout(settings.timeout)
            .max_lifetime(Duration::from_mins(30))
            .test_before_acquire(false)
            .before_acquire(|connection, about| {
                Box::pin(async move {
                    if about.idle_for > IDLE_BEFORE_PING {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
            .after_connect(move |connection, _| {
                let session = session.clone();
                Box::pin(async move { session.apply(connection).await })
            })
            .connect_lazy_with(settings.with_session(settings.connect.first()));
        let metrics = PoolMetrics::new(settings.application_name);
        Self { pool, settings, metrics }
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

    /// Checks that the database answers.
    pub async fn ping(&self) -> Result<(), Error> {
        self.execute(sqlx::query("SELECT 1")).await.map(drop)
    }

    /// Opens a connection outside the pool, with the same session settings, for a task that keeps it.
    pub async fn connect(&self) -> Result<PgConnection, Error> {
        self.settings.open().await
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
            let mut lease = self.lease().await?;
            self.metrics.waited.record(asked.elapsed());
            let began = Instant::now();
            let outcome = call(lease.connection()?, self.settings.timeout).await;
            self.metrics.called.record(began.elapsed());
            lease.end(outcome)
        };
        outcome.await.inspect_err(|error| self.metrics.failed(error))
    }

    async fn lease(&self) -> Result<Lease, Error> {
        let mut acquired = self.pool.acquire().await;
        if let Err(refused) = &acquired
            && self.settings.connect.has_password_file()
            && is_about_credentials(refused)
        {
            acquired = Box::pin(self.acquire_with_new_password()).await;
        }
        let connection = acquired.map_err(Error::of_connecting)?;
        Ok(Lease { connection: Some(connection), limit: self.settings.timeout })
    }

    /// Reads the password again, since the server has refused the one that the pool knows.
    async fn acquire_with_new_password(&self) -> Result<PoolConnection<Postgres>, sqlx::Error> {
        self.pool.set_connect_options(self.settings.connect_options().await);
        self.pool.acquire().await
    }

    /// Keeps the gauges of the pool up to date until the lifecycle is closing.
    pub fn watch(&self, lifecycle: &Lifecycle) {
        let (pool, of) = (self.pool.clone(), self.settings.application_name);
        gauge!("parlance_database_connections_max", "pool" => of).set(self.settings.connections);
        let used = gauge!("parlance_database_connections", "pool" => of, "state" => "used");
        let idle = gauge!("parlance_database_connections", "pool" => of, "state" => "idle");
        metrics::watch(lifecycle, move || {
            let (size, free) = (pool.size(), pool.num_idle());
            idle.set(free as f64);
            used.set((size as usize).saturating_sub(free) as f64);
        });
    }
}

/// A connection in use. One whose call timed out is closed rather than returned: the pool would wait for its answer without
/// a limit before it could be used again. One whose caller has gone is returned once the call has ended, if that happens in
/// time: many callers that give up early must not make the database accept many new connections, too.
struct Lease {
    /// Present until the call has ended.
    connection: Option<PoolConnection<Postgres>>,
    limit: Duration,
}

impl Lease {
    fn connection(&mut self) -> Result<&mut PgConnection, Error> {
        // Always present: it is taken when the lease ends.
        self.connection.as_deref_mut().ok_or(Error::NotConnected(sqlx::Error::PoolClosed))
    }

    fn end<T>(mut self, outcome: Result<T, Error>) -> Result<T, Error> {
        if let (Some(mut connection), Err(Error::Timeout { .. })) = (self.connection.take(), &outcome) {
            connection.close_on_drop();
        }
        outcome
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        let Ok(runtime) = Handle::try_current() else { return connection.close_on_drop() };
        let limit = self.limit;
        // Outside of the lifecycle: it ends by itself, and closing the pool waits for it.
        runtime.spawn(async move {
            if bounded(limit, connection.ping()).await.is_err() {
                connection.close_on_drop();
            }
        });
    }
}

impl Settings {
    /// Opens one connection with the session settings that all statements rely on.
    pub async fn open(&self) -> Result<PgConnection, Error> {
        let opened = bounded(self.timeout, async {
            let mut connection = self.connect_options().await.connect().await?;
            self.apply(&mut connection).await?;
            Ok(connection)
        });
        opened.await.map_err(Error::of_connecting)
    }

    async fn connect_options(&self) -> PgConnectOptions {
        self.with_session(self.connect.current().await)
    }

    fn with_session(&self, options: PgConnectOptions) -> PgConnectOptions {
        options
            .application_name(self.application_name)
            .log_statements(tracing::log::LevelFilter::Trace)
            .log_slow_statements(tracing::log::LevelFilter::Warn, Duration::from_secs(1))
    }

    /// A statement after connecting rather than start-up options, which connection poolers refuse.
    async fn apply(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let statement_timeout = self.timeout.as_millis();
        let plan_cache_mode = if self.plan_anew { "force_custom_plan" } else { "auto" };
        let statement = format!(
            "SET default_transaction_isolation = 'read committed'; SET synchronous_commit = on; \
             SET statement_timeout = {statement_timeout}; SET lock_timeout = 500; \
             SET idle_in_transaction_session_timeout = 10000; SET timezone = 'UTC'; \
             SET plan_cache_mode = {plan_cache_mode}"
        );
        // Built only from constants and numbers: nothing comes from a caller.
        connection.execute(sqlx::raw_sql(AssertSqlSafe(statement))).await.map(drop)
    }
}

/// True if the server refuses the role or its password.
fn is_about_credentials(error: &sqlx::Error) -> bool {
    let state = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    state.is_some_and(|state| state.starts_with("28"))
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
