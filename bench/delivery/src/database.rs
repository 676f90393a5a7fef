//! A database of the benchmark's own.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use anyhow::Context;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};

/// How often every session of the doorbell is ended while hints are to be lost.
const SILENCE_EVERY: Duration = Duration::from_millis(2);

/// Made by the benchmark, and to be dropped by it.
pub(crate) struct Database {
    server: PgConnectOptions,
    name: String,
}

impl Database {
    /// Makes one on this server.
    pub(crate) async fn create(server: &str) -> anyhow::Result<Self> {
        let server: PgConnectOptions = server.parse().context("that is no connection string of PostgreSQL")?;
        let database = Self { server, name: format!("parlance_bench_{}", std::process::id()) };
        database.on_the_server(format!("CREATE DATABASE {}", database.name)).await?;
        Ok(database)
    }

    /// Where it is, for a service.
    pub(crate) fn url(&self) -> String {
        self.server.clone().database(&self.name).to_url_lossy().to_string()
    }

    /// What of the server bears on the figures, in one line.
    pub(crate) async fn facts(&self) -> anyhow::Result<String> {
        const FACTS: &str = "
            SELECT format('PostgreSQL %s, fsync %s, synchronous_commit %s', current_setting('server_version'),
                current_setting('fsync'), current_setting('synchronous_commit'))";
        let (facts,) = sqlx::query_as(FACTS).fetch_one(&mut self.connect().await?).await?;
        Ok(facts)
    }

    /// Makes sure that no replica tells another anything: ends every session of a doorbell as soon as it is there, and counts
    /// them, until this is dropped. Ends by itself only with an error.
    pub(crate) async fn silence(&self, ended: &AtomicU64) -> anyhow::Error {
        const END: &str = "
            SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = current_database()
                AND application_name IN ('parlance message-service bell', 'parlance message-service listener')";
        let work = async {
            let mut outside = self.connect().await?;
            loop {
                let done = sqlx::query(END).execute(&mut outside).await?;
                ended.fetch_add(done.rows_affected(), Ordering::Relaxed);
                tokio::time::sleep(SILENCE_EVERY).await;
            }
        };
        let done: anyhow::Result<std::convert::Infallible> = work.await;
        match done {
            Err(error) => error.context("ending the sessions of the doorbell"),
        }
    }

    /// Drops it, whoever is still connected.
    pub(crate) async fn drop(self) -> anyhow::Result<()> {
        self.on_the_server(format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name)).await
    }

    async fn connect(&self) -> anyhow::Result<PgConnection> {
        let options = self.server.clone().database(&self.name);
        options.connect().await.context("connecting to the database of the benchmark")
    }

    async fn on_the_server(&self, statement: String) -> anyhow::Result<()> {
        let mut server = self.server.connect().await.context("PostgreSQL cannot be reached")?;
        let said = statement.clone();
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut server).await.context(said)?;
        Ok(server.close().await?)
    }
}
