//! Databases for unit tests that need the real PostgreSQL of `TEST_DATABASE_URL`.

use std::time::Duration;

use service_kit::database::{self, Database, Settings};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, postgres::PgConnectOptions};

use super::{Store, migrations};

/// A migrated database of one test.
pub(super) struct TestDatabase {
    name: String,
    admin: PgConnection,
    pub(super) settings: Settings,
    pub(super) store: Store,
}

impl TestDatabase {
    /// Creates one. `test` distinguishes the tests of this process.
    pub(super) async fn new(test: &str) -> Self {
        let url = std::env::var("TEST_DATABASE_URL").expect("TEST_DATABASE_URL is not set: run `make test`");
        let server: PgConnectOptions = url.parse().unwrap();
        let name = format!("storage_{test}_{}", std::process::id());
        let mut admin = PgConnection::connect_with(&server).await.unwrap();
        admin.execute(sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name}")))).await.unwrap();
        let settings = Settings {
            connect: server.clone().database(&name).into(),
            application_name: "test",
            connections: 2,
            timeout: Duration::from_secs(5),
            plan_anew: true,
        };
        database::migrate(&settings, &migrations::schema()).await.unwrap();
        let store = Store::new(Database::new(settings.clone()));
        Self { name, admin, settings, store }
    }

    /// Drops it.
    pub(super) async fn drop(mut self) {
        self.store.database.close().await;
        let drop = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        self.admin.execute(sqlx::raw_sql(AssertSqlSafe(drop))).await.unwrap();
    }
}
