//! The connection to PostgreSQL: a pool whose sessions are set the same whatever the cluster's defaults, and calls that
//! always end. SQL itself is the services' (`storage/`).

mod error;
mod listener;
mod migrate;

use std::{future::Future, time::Duration};

pub use error::Error;
pub use listener::{Heard, Listener};
pub use migrate::{MigrateError, Schema, migrate, migrate_when_reachable};
pub use sqlx::postgres::PgConnectOptions;
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection, PgPool, Postgres,
    pool::PoolConnection,
    postgres::{PgArguments, PgPoolOptions, PgRow},
    query::{Query, QueryAs},
};

/// A connection that has been idle for longer is asked whether it still lives before it is used.
const IDLE_BEFORE_PING: Duration = Duration::from_secs(30);

/// How to reach a database, and the bounds of using it. Its `Debug` names the database, never the password.
#[derive(Clone)]
pub struct Settings {
    /// Where it is and who we are there.
    pub connect: PgConnectOptions,
    /// Shown in `pg_stat_activity`.
    pub application_name: &'static str,
    /// The most connections of the pool.
    pub connections: u32,
    /// The longest one call may take, waiting for a connection included.
    pub timeout: Duration,
    /// Plan every statement for its values and for what the tables hold by then. For tables that grow from empty: a plan kept
    /// from their first minutes reads them whole.
    pub plan_anew: bool,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { connect, application_name, connections, timeout, plan_anew } = self;
        let database =
            format_args!("{}:{}/{}", connect.get_host(), connect.get_port(), connect.get_database().unwrap_or("?"))
                .to_string();
        let mut shown = formatter.debug_struct("Settings");
        shown.field("database", &database).field("application_name", application_name);
        shown.field("connections", connections).field("timeout", timeout).field("plan_anew", plan_anew).finish()
    }
}

/// A pool of connections. Cheap to clone. Every call of it ends within the timeout; a connection whose call timed out is
/// closed, since nobody knows what it is doing.
#[derive(Debug, Clone)]
pub struct Database {
    pool: PgPool,
    settings: Settings,
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
            .connect_lazy_with(settings.connect_options());
        Self { pool, settings }
    }

    /// The bounds it was made with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// All rows, in the order of the statement.
    pub async fn fetch_all<O>(&self, query: QueryAs<'_, Postgres, O, PgArguments>) -> Result<Vec<O>, Error>
    where
        O: Send + Unpin + for<'r> sqlx::FromRow<'r, PgRow>,
    {
        let mut lease = self.lease().await?;
        let outcome = bounded(self.settings.timeout, query.fetch_all(&mut *lease.connection)).await;
        lease.end(outcome)
    }

    /// The first row, if there is one.
    pub async fn fetch_optional<O>(&self, query: QueryAs<'_, Postgres, O, PgArguments>) -> Result<Option<O>, Error>
    where
        O: Send + Unpin + for<'r> sqlx::FromRow<'r, PgRow>,
    {
        let mut lease = self.lease().await?;
        let outcome = bounded(self.settings.timeout, query.fetch_optional(&mut *lease.connection)).await;
        lease.end(outcome)
    }

    /// The one row of a statement that always gives one.
    pub async fn fetch_one<O>(&self, query: QueryAs<'_, Postgres, O, PgArguments>) -> Result<O, Error>
    where
        O: Send + Unpin + for<'r> sqlx::FromRow<'r, PgRow>,
    {
        let mut lease = self.lease().await?;
        let outcome = bounded(self.settings.timeout, query.fetch_one(&mut *lease.connection)).await;
        lease.end(outcome)
    }

    /// Runs a statement; gives the number of rows it changed.
    pub async fn execute(&self, query: Query<'_, Postgres, PgArguments>) -> Result<u64, Error> {
        let mut lease = self.lease().await?;
        let outcome = bounded(self.settings.timeout, query.execute(&mut *lease.connection)).await;
        lease.end(outcome).map(|done| done.rows_affected())
    }

    /// Asks whether the database answers.
    pub async fn ping(&self) -> Result<(), Error> {
        self.execute(sqlx::query("SELECT 1")).await.map(drop)
    }

    /// Opens a connection outside the pool, with the same session settings, for a task that keeps one of its own.
    pub async fn connect(&self) -> Result<PgConnection, Error> {
        self.settings.open().await
    }

    /// Closes every connection, waiting for those in use.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    async fn lease(&self) -> Result<Lease, Error> {
        Ok(Lease { connection: self.pool.acquire().await?, is_idle: false })
    }
}

/// A connection in use. One whose call was not seen to its end (it ran out of time, or its caller hung up) is closed rather
/// than given back: the pool would wait for its answer, without a limit of its own, before anybody else could have it.
struct Lease {
    connection: PoolConnection<Postgres>,
    is_idle: bool,
}

impl Lease {
    fn end<T>(mut self, outcome: Result<T, Error>) -> Result<T, Error> {
        self.is_idle = !matches!(outcome, Err(Error::Timeout { .. }));
        outcome
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.is_idle {
            self.connection.close_on_drop();
        }
    }
}

impl Settings {
    /// Opens one connection with the session settings that everything here relies on.
    pub async fn open(&self) -> Result<PgConnection, Error> {
        bounded(self.timeout, async {
            let mut connection = self.connect_options().connect().await?;
            self.apply(&mut connection).await?;
            Ok(connection)
        })
        .await
    }

    fn connect_options(&self) -> PgConnectOptions {
        self.connect
            .clone()
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
        // Numbers and words of ours only: nothing here comes from a caller.
        connection.execute(sqlx::raw_sql(AssertSqlSafe(statement))).await.map(drop)
    }
}

/// Holds one database future to a time.
pub async fn bounded<T>(limit: Duration, call: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, Error> {
    match tokio::time::timeout(limit, call).await {
        Ok(outcome) => Ok(outcome?),
        Err(_) => Err(Error::Timeout { limit }),
    }
}

/// Warns of server settings under which an acknowledged write may be lost.
pub async fn warn_of_unsafe_settings(database: &Database) -> Result<(), Error> {
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
