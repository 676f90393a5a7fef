//! The outbox: one row for each transaction that took a sequence. Written by the write path, trimmed here.

use super::{Error, Store};

/// The most rows deleted at a time.
const TRIM: i64 = 10_000;

/// A point in the history of transactions: everything below it had ended when it was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Horizon(String);

const HORIZON: &str = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text";

const TRIM_BELOW: &str = "
    DELETE FROM parlance_message.outbox
    WHERE outbox_id IN (
        SELECT outbox_id
        FROM parlance_message.outbox
        WHERE xact_id < $1::xid8
        ORDER BY xact_id
        LIMIT $2
        FOR UPDATE SKIP LOCKED
    )";

impl Store {
    /// The horizon as it is now.
    pub(crate) async fn horizon(&self) -> Result<Horizon, Error> {
        let (xmin,): (String,) = self.database.fetch_one(sqlx::query_as(HORIZON)).await?;
        Ok(Horizon(xmin))
    }

    /// Deletes rows of transactions below the horizon, at most 10,000 of them; gives their number. Replicas that do this at the
    /// same time share the work. Read along `outbox_xact_id_idx`.
    pub(crate) async fn trim_outbox(&self, below: &Horizon) -> Result<u64, Error> {
        self.database.execute(sqlx::query(TRIM_BELOW).bind(&below.0).bind(TRIM)).await
    }

    /// True when a call of [`trim_outbox`](Self::trim_outbox) that deleted this many may have left some.
    pub(crate) fn is_full_trim(deleted: u64) -> bool {
        deleted >= TRIM as u64
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use service_kit::database::{self, Database, Settings};
    use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, postgres::PgConnectOptions};

    use super::*;
    use crate::storage::migrations;

    const ROW: &str = "
        INSERT INTO parlance_message.outbox (conversation_ids, last_sequences, user_ids, created_at)
        VALUES ('{}', '{}', '{}', now())";

    #[tokio::test]
    async fn what_had_not_ended_at_the_horizon_stays() {
        let url = std::env::var("TEST_DATABASE_URL").expect("TEST_DATABASE_URL is not set: run `make test`");
        let server: PgConnectOptions = url.parse().unwrap();
        let name = format!("trim_outbox_{}", std::process::id());
        let mut admin = PgConnection::connect_with(&server).await.unwrap();
        admin.execute(sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name}")))).await.unwrap();

        let settings = Settings {
            connect: server.clone().database(&name),
            application_name: "test",
            connections: 2,
            timeout: Duration::from_secs(5),
            plan_anew: true,
        };
        database::migrate(&settings, &migrations::schema()).await.unwrap();
        let store = Store::new(Database::new(settings.clone()));

        let mut late = settings.open().await.unwrap();
        late.execute("BEGIN").await.unwrap();
        late.execute(ROW).await.unwrap();
        let before_the_others = store.horizon().await.unwrap();
        for _ in 0..3 {
            store.database.execute(sqlx::query(ROW)).await.unwrap();
        }
        let while_one_is_open = store.horizon().await.unwrap();
        late.execute("COMMIT").await.unwrap();

        assert_eq!(store.trim_outbox(&before_the_others).await.unwrap(), 0);
        assert_eq!(store.trim_outbox(&while_one_is_open).await.unwrap(), 0);
        let after_all = store.horizon().await.unwrap();
        assert_eq!(store.trim_outbox(&after_all).await.unwrap(), 4);

        late.close().await.unwrap();
        store.database.close().await;
        admin.execute(sqlx::raw_sql(AssertSqlSafe(format!("DROP DATABASE {name} WITH (FORCE)")))).await.unwrap();
    }
}
