//! The connection to PostgreSQL: a pool whose sessions have the same settings on every cluster, and calls that always end.
//! The statements are in the services (`storage/`).

mod address;
mod calls;
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

use std::{future::Future, time::Duration};

pub use address::Address;
pub use calls::Database;
pub(crate) use calls::warn_of_unsafe_settings;
pub use error::Error;
pub use inspection::Inspection;
pub use kept::Kept;
pub use listener::{Listener, Notification};
pub(crate) use migrate::migrate_when_reachable;
pub use migrate::{MigrateError, Schema, migrate};
pub use notifier::Notifier;
pub use server::EncodingError;
pub use session::Session;
pub use version::VersionError;

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

/// Applies a timeout to a database call.
pub async fn bounded<T>(limit: Duration, call: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, Error> {
    match tokio::time::timeout(limit, call).await {
        Ok(outcome) => Ok(outcome?),
        Err(_) => Err(Error::Timeout { limit }),
    }
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

    #[tokio::test]
    async fn a_session_ended_in_its_transaction_is_an_outage_and_is_replaced() {
        let url = std::env::var("TEST_DATABASE_URL").expect("TEST_DATABASE_URL is not set: run `make test`");
        let settings = settings(&url, Duration::from_secs(10));
        let (database, other) = (Database::new(settings.clone()), Database::new(settings));
        let (backend,): (i32,) = database.fetch_one(sqlx::query_as("SELECT pg_backend_pid()")).await.unwrap();
        database.execute(sqlx::query("BEGIN")).await.unwrap();
        database.execute(sqlx::query("SET idle_in_transaction_session_timeout = 50")).await.unwrap();
        let lives = async || {
            let query = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1)";
            let (lives,): (bool,) = other.fetch_one(sqlx::query_as(query).bind(backend)).await.unwrap();
            lives
        };
        tokio::time::timeout(Duration::from_secs(10), async { while lives().await {} }).await.unwrap();
        let error = database.execute(sqlx::query("SELECT 1")).await.unwrap_err();
        assert!(error.is_outage(), "{error:?}");
        database.ping().await.unwrap();
        database.close().await;
        other.close().await;
    }
}
