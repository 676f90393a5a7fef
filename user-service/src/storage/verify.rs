//! All accounts, read in slices for a check (`verify.rs`): by keyset along primary keys, over one connection that can change
//! nothing. Each slice is one statement and locks no row.

use std::time::Duration;

use service_kit::database::{Error, Settings, VersionError, bounded, check_version};
use sqlx::{Executor, PgConnection, postgres::PgArguments, query::QueryAs};

use super::migrations;

/// The longest that one slice may take, unless the service is given more.
const PATIENCE: Duration = Duration::from_mins(1);

/// Read only, whatever happens; not in the way of a migration for longer than a slice; and in the order of primary keys, since
/// statistics of a table that has just been restored are no guide.
const SESSION: &str = "
    SET default_transaction_read_only = on;
    SET lock_timeout = '10s';
    SET enable_seqscan = off;
    SET enable_bitmapscan = off;
    SET enable_hashjoin = off;
    SET enable_mergejoin = off;
    SET enable_sort = off;
    SET enable_incremental_sort = off;
    SET max_parallel_workers_per_gather = 0;
    SET jit = off";

/// A user, with what its row must be like.
#[derive(Debug, sqlx::FromRow)]
#[expect(clippy::struct_excessive_bools, reason = "each is a question put to one row, with an answer of its own")]
pub(crate) struct UserRow {
    pub(crate) user_id: String,
    pub(crate) username_key: String,
    /// What `username_key` has to be.
    pub(crate) expected_key: String,
    /// Another user with the same key.
    pub(crate) namesake: Option<String>,
    pub(crate) is_deleted: bool,
    /// Something personal is left.
    pub(crate) has_personal: bool,
    pub(crate) has_delete_time: bool,
    pub(crate) is_time_backwards: bool,
}

/// A row of the outbox.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct OutboxRow {
    pub(crate) outbox_id: i64,
    pub(crate) user_id: String,
    pub(crate) is_orphan: bool,
}

const USERS: &str = "
    WITH slice AS MATERIALIZED (
        SELECT u.user_id, u.username, u.username_key, u.display_name, u.state, u.request_hash, u.created_at, u.updated_at,
            u.deleted_at
        FROM parlance_user.users AS u
        WHERE u.user_id > $1
        ORDER BY u.user_id
        LIMIT $2
    )
    SELECT s.user_id, s.username_key,
        CASE WHEN s.state = 'deleted' THEN '~' || s.user_id ELSE lower(s.username) END AS expected_key,
        (
            SELECT o.user_id
            FROM parlance_user.users AS o
            WHERE o.username_key = s.username_key AND o.user_id <> s.user_id
            LIMIT 1
        ) AS namesake,
        s.state = 'deleted' AS is_deleted,
        s.username <> '' OR s.display_name <> '' OR s.request_hash IS NOT NULL AS has_personal,
        s.deleted_at IS NOT NULL AS has_delete_time,
        s.updated_at < s.created_at AS is_time_backwards
    FROM slice AS s
    ORDER BY s.user_id";

const OUTBOX: &str = "
    WITH slice AS MATERIALIZED (
        SELECT o.outbox_id, o.user_id
        FROM parlance_user.outbox AS o
        WHERE o.outbox_id > $1
        ORDER BY o.outbox_id
        LIMIT $2
    )
    SELECT s.outbox_id, s.user_id, u.user_id IS NULL AS is_orphan
    FROM slice AS s
    LEFT JOIN parlance_user.users AS u ON u.user_id = s.user_id
    ORDER BY s.outbox_id";

const HAS_KEY: &str = "SELECT count(*) = 1 FROM parlance_user.settings WHERE name = 'page_token_key'";

/// A connection that reads all there is, and nothing else.
#[derive(Debug)]
pub(crate) struct Inspection {
    connection: PgConnection,
    limit: Duration,
    slice: u32,
}

impl Inspection {
    /// Connects, and makes sure that the tables are those that this binary knows. At most `slice` rows are read at a time.
    pub(crate) async fn open(settings: &Settings, slice: u32) -> Result<Self, VersionError> {
        let limit = PATIENCE.max(settings.timeout);
        let settings = Settings { timeout: limit, plan_anew: true, ..settings.clone() };
        let mut connection = settings.open().await?;
        bounded(limit, connection.execute(sqlx::raw_sql(SESSION))).await?;
        check_version(&mut connection, &migrations::schema()).await?;
        Ok(Self { connection, limit, slice })
    }

    /// The number of rows after which a slice is full.
    pub(crate) fn slice(&self) -> usize {
        self.slice as usize
    }

    /// Users after one, by id.
    pub(crate) async fn read_users(&mut self, after: &str) -> Result<Vec<UserRow>, Error> {
        let most = i64::from(self.slice);
        self.fetch_all(sqlx::query_as(USERS).bind(after).bind(most)).await
    }

    /// Rows of the outbox after one.
    pub(crate) async fn read_outbox(&mut self, after: i64) -> Result<Vec<OutboxRow>, Error> {
        let most = i64::from(self.slice);
        self.fetch_all(sqlx::query_as(OUTBOX).bind(after).bind(most)).await
    }

    /// Whether there is what all replicas share.
    pub(crate) async fn has_settings(&mut self) -> Result<bool, Error> {
        let rows: Vec<(bool,)> = self.fetch_all(sqlx::query_as(HAS_KEY)).await?;
        Ok(rows == [(true,)])
    }

    async fn fetch_all<O>(&mut self, query: QueryAs<'_, sqlx::Postgres, O, PgArguments>) -> Result<Vec<O>, Error>
    where
        O: Send + Unpin + for<'r> sqlx::FromRow<'r, sqlx::postgres::PgRow>,
    {
        bounded(self.limit, query.fetch_all(&mut self.connection)).await
    }
}
