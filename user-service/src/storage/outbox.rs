//! The outbox: one row for each change of a user, written by a trigger in the transaction of the change; read and trimmed
//! here.
//!
//! A reader remembers the snapshot of its last look and asks for the rows that it could not see: exact, however late a
//! transaction commits.

use service_kit::database;
use sqlx::FromRow;

use super::{Error, Store};
use crate::domain::UserId;

/// The most users that one look gives.
const MAX_CHANGED: i64 = 1_000;
/// The most rows deleted at a time.
const TRIM: i64 = 10_000;

/// What a look at the outbox could see, as PostgreSQL writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Snapshot(String);

/// A point in the history of transactions: everything below it had ended when it was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Horizon(String);

/// What one look at the outbox gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Look {
    /// What it could see.
    pub(crate) snapshot: Snapshot,
    /// Who changed since the look before, each once. None if that cannot be told: too many, or the history of the database
    /// is not the one of the look before (a failover, a restore).
    pub(crate) changed: Option<Vec<UserId>>,
}

#[derive(Debug, FromRow)]
struct LookRow {
    snapshot: String,
    is_behind: bool,
    user_ids: Vec<String>,
}

const SNAPSHOT: &str = "SELECT pg_current_snapshot()::text";

// One statement, so that the snapshot given is the one that the rows were read by. Along outbox_xact_id_idx. A row of a
// transaction that has not begun here can be visible only because a restore brought it along from another server; read at
// every look, it would tell nothing new each time.
const LOOK: &str = "
    SELECT pg_current_snapshot()::text AS snapshot,
           pg_snapshot_xmax(pg_current_snapshot()) < pg_snapshot_xmax($1::pg_snapshot) AS is_behind,
           ARRAY(
               SELECT DISTINCT user_id
               FROM parlance_user.outbox
               WHERE xact_id >= pg_snapshot_xmin($1::pg_snapshot)
                   AND NOT pg_visible_in_snapshot(xact_id, $1::pg_snapshot)
                   AND xact_id < pg_snapshot_xmax(pg_current_snapshot())
               LIMIT $2
           ) AS user_ids";

const HORIZON: &str = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text";

const TRIM_BELOW: &str = "
    DELETE FROM parlance_user.outbox
    WHERE outbox_id IN (
        SELECT outbox_id
        FROM parlance_user.outbox
        WHERE xact_id < $1::xid8
        ORDER BY xact_id
        LIMIT $2
        FOR UPDATE SKIP LOCKED
    )";

// What a restore brought along: it would stay until this server has had as many transactions as the other one.
const TRIM_FOREIGN: &str = "
    DELETE FROM parlance_user.outbox
    WHERE outbox_id IN (
        SELECT outbox_id
        FROM parlance_user.outbox
        WHERE xact_id >= pg_snapshot_xmax(pg_current_snapshot())
        ORDER BY xact_id
        LIMIT $1
        FOR UPDATE SKIP LOCKED
    )";

impl Store {
    /// Where to begin to look from.
    pub(crate) async fn snapshot(&self) -> Result<Snapshot, Error> {
        let (snapshot,): (String,) = self.database()?.fetch_one(sqlx::query_as(SNAPSHOT)).await?;
        Ok(Snapshot(snapshot))
    }

    /// Looks for changes that the last look could not see.
    pub(crate) async fn look(&self, last: &Snapshot) -> Result<Look, Error> {
        let query = sqlx::query_as(LOOK).bind(&last.0).bind(MAX_CHANGED + 1);
        let row: LookRow = self.database()?.fetch_one(query).await?;
        let is_complete = !row.is_behind && row.user_ids.len() as i64 <= MAX_CHANGED;
        let read =
            |id: &String| UserId::parse(id).map_err(|_| database::Error::Corrupt(format!("outbox.user_id {id:?}")));
        let changed = is_complete.then(|| row.user_ids.iter().map(read).collect::<Result<_, _>>()).transpose()?;
        Ok(Look { snapshot: Snapshot(row.snapshot), changed })
    }

    /// The horizon as it is now.
    pub(crate) async fn horizon(&self) -> Result<Horizon, Error> {
        let (xmin,): (String,) = self.database()?.fetch_one(sqlx::query_as(HORIZON)).await?;
        Ok(Horizon(xmin))
    }

    /// Deletes rows of transactions below the horizon and rows of another server, at most 10,000 of each; gives their
    /// number. Replicas that do this at the same time share the work.
    pub(crate) async fn trim_outbox(&self, below: &Horizon) -> Result<u64, Error> {
        let database = self.database()?;
        let old = database.execute(sqlx::query(TRIM_BELOW).bind(&below.0).bind(TRIM)).await?;
        let foreign = database.execute(sqlx::query(TRIM_FOREIGN).bind(TRIM)).await?;
        Ok(old + foreign)
    }

    /// True when a call of [`trim_outbox`](Self::trim_outbox) that deleted this many may have left some.
    pub(crate) fn is_full_trim(deleted: u64) -> bool {
        deleted >= TRIM as u64
    }
}
