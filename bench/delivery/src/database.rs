//! The benchmark's temporary database.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use anyhow::Context;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};

/// The interval at which the sessions of the bus are ended to suppress all hints.
const SUPPRESS_INTERVAL: Duration = Duration::from_millis(2);

/// A database created and dropped by the benchmark.
pub(crate) struct Database {
    server: PgConnectOptions,
    name: String,
}

impl Database {
    /// Creates a database on this server.
    pub(crate) async fn create(server: &str) -> anyhow::Result<Self> {
        let server: PgConnectOptions = server.parse().context("invalid PostgreSQL connection string")?;
        let database = Self { server, name: format!("parlance_bench_{}", std::process::id()) };
        database.execute_on_server(format!("CREATE DATABASE {}", database.name)).await?;
        Ok(database)
    }

    /// Returns its connection string.
    pub(crate) fn url(&self) -> String {
        self.server.clone().database(&self.name).to_url_lossy().to_string()
    }

    /// Returns the server's settings that affect the figures, in one line.
    pub(crate) async fn facts(&self) -> anyhow::Result<String> {
        const FACTS: &str = "
            SELECT format('PostgreSQL %s, fsync %s, synchronous_commit %s', current_setting('server_version'),
                current_setting('fsync'), current_setting('synchronous_commit'))";
        let (facts,) = sqlx::query_as(FACTS).fetch_one(&mut self.connect().await?).await?;
        Ok(facts)
    }

    /// Suppresses all hints between replicas: ends every session of the bus as soon as it exists, and counts them, until the
    /// future is dropped. Returns only with an error.
    pub(crate) async fn suppress_hints(&self, ended: &AtomicU64) -> anyhow::Error {
        const END: &str = "
            SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = current_database()
                AND application_name IN ('parlance message-service bell', 'parlance message-service listener')";
        let work = async {
            let mut connection = self.connect().await?;
            loop {
                let done = sqlx::query(END).execute(&mut connection).await?;
                ended.fetch_add(done.rows_affected(), Ordering::Relaxed);
                tokio::time::sleep(SUPPRESS_INTERVAL).await;
            }
        };
        let done: anyhow::Result<std::convert::Infallible> = work.await;
        match done {
            Err(error) => error.context("ending the sessions of the bus"),
        }
    }

    /// Drops the database, even if clients are still connected.
    pub(crate) async fn drop(self) -> anyhow::Result<()> {
        self.execute_on_server(format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name)).await
    }

    async fn connect(&self) -> anyhow::Result<PgConnection> {
        let options = self.server.clone().database(&self.name);
        options.connect().await.context("connecting to the database of the benchmark")
    }

    async fn execute_on_server(&self, statement: String) -> anyhow::Result<()> {
        let mut server = self.server.connect().await.context("PostgreSQL cannot be reached")?;
        let context = statement.clone();
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut server).await.context(context)?;
        Ok(server.close().await?)
    }
}
