//! Sessions: open connections whose settings are the same on every server and cluster.

use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection, Row, postgres::PgConnectOptions};

use super::{Error, Settings, bounded, server};

/// A session that has been idle for longer is asked for an answer before it is used: whatever is between this process and
/// the server may have dropped it silently.
const IDLE_BEFORE_PING: Duration = Duration::from_secs(30);

/// The longest that an idle session may take to answer.
const PING_TIMEOUT: Duration = Duration::from_secs(1);

/// The longest time to say farewell.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// An open connection, and what is known of its session.
#[derive(Debug)]
pub struct Session {
    connection: PgConnection,
    process_id: i32,
    opened: Instant,
    used: Instant,
}

/// The answer to the settings of a session.
pub(super) struct Facts {
    process_id: i32,
    is_read_only: bool,
}

impl Session {
    /// Returns the connection.
    pub fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    /// Returns the id of the server process.
    pub fn process_id(&self) -> i32 {
        self.process_id
    }

    pub(super) fn age(&self) -> Duration {
        self.opened.elapsed()
    }

    pub(super) fn idle_time(&self) -> Duration {
        self.used.elapsed()
    }

    pub(super) fn mark_used(&mut self) {
        self.used = Instant::now();
    }

    /// True if it was used recently, or still answers.
    pub(super) async fn is_usable(&mut self) -> bool {
        self.idle_time() <= IDLE_BEFORE_PING || self.answers_within(PING_TIMEOUT).await
    }

    /// True if the server answers in time, after the end of a call that was given up.
    pub(super) async fn answers_within(&mut self, limit: Duration) -> bool {
        bounded(limit, self.connection.ping()).await.is_ok()
    }

    pub(super) async fn close(self) {
        // The server notices in any case.
        let _ = bounded(CLOSE_TIMEOUT, self.connection.close()).await;
    }
}

impl Settings {
    /// Opens one connection, to a server of any kind, with the session settings that all statements rely on.
    ///
    /// # Errors
    /// [`Error::NotConnected`].
    pub async fn open(&self) -> Result<PgConnection, Error> {
        self.open_any().await.map(|(connection, _)| connection)
    }

    /// Opens a session in which writes are accepted.
    ///
    /// # Errors
    /// [`Error::NotConnected`], also when the server is read only.
    pub(super) async fn session(&self) -> Result<Session, Error> {
        let (connection, Facts { process_id, is_read_only }) = self.open_any().await?;
        let now = Instant::now();
        let session = Session { connection, process_id, opened: now, used: now };
        if is_read_only {
            session.close().await;
            return Err(Error::NotConnected(server::read_only()));
        }
        Ok(session)
    }

    async fn open_any(&self) -> Result<(PgConnection, Facts), Error> {
        let opened = bounded(self.timeout, async {
            let mut connection = self.connect_options().await.connect().await?;
            let facts = self.apply(&mut connection).await?;
            Ok((connection, facts))
        });
        opened.await.map_err(Error::of_connecting)
    }

    pub(super) async fn connect_options(&self) -> PgConnectOptions {
        let options = self.connect.current().await;
        // PgBouncer refuses this start-up parameter, and all numbers are sent in binary form.
        options
            .extra_float_digits(None)
            .application_name(self.application_name)
            .log_statements(tracing::log::LevelFilter::Trace)
            .log_slow_statements(tracing::log::LevelFilter::Warn, Duration::from_secs(1))
    }

    /// Applies the settings: in a statement after connecting rather than as start-up options, which connection poolers
    /// refuse. The server keeps idle connections alive, since the driver cannot.
    pub(super) async fn apply(&self, connection: &mut PgConnection) -> Result<Facts, sqlx::Error> {
        let statement_timeout = self.timeout.as_millis();
        let plan_cache_mode = if self.plan_anew { "force_custom_plan" } else { "auto" };
        let statement = format!(
            "SET search_path = pg_catalog, pg_temp; \
             SET default_transaction_isolation = 'read committed'; SET synchronous_commit = on; \
             SET statement_timeout = {statement_timeout}; SET lock_timeout = 500; \
             SET idle_in_transaction_session_timeout = 10000; SET idle_session_timeout = 0; SET timezone = 'UTC'; \
             SET tcp_keepalives_idle = 60; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 6; \
             SET jit = off; SET plan_cache_mode = {plan_cache_mode}; \
             SELECT pg_backend_pid(), current_setting('transaction_read_only') = 'on'"
        );
        // Built only from constants and numbers: nothing comes from a caller.
        let row = connection.fetch_one(sqlx::raw_sql(AssertSqlSafe(statement))).await?;
        Ok(Facts { process_id: row.try_get(0)?, is_read_only: row.try_get(1)? })
    }
}
