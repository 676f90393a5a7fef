//! Reads an outbox from a position.

use std::{
    marker::PhantomData,
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::{AssertSqlSafe, FromRow, Row, postgres::PgRow};

use super::{
    super::{Database, Error},
    position::{History, Position, Rest, Snapshot},
};

/// The part of the retention for which a position is valid. The rest is a margin for slow statements and other clocks.
const MAX_AGE: f64 = 0.4;

/// The outbox of one service, as SQL. All texts are constants of the service.
pub trait Source {
    /// The result of one read.
    type Batch: for<'r> FromRow<'r, PgRow> + Send + Unpin;

    /// The table, such as `parlance_user.outbox`.
    const TABLE: &'static str;

    /// The columns that [`BATCH`](Self::BATCH) needs, separated by commas.
    const COLUMNS: &'static str;

    /// A select list of scalar expressions over the table `read`, which has [`COLUMNS`](Self::COLUMNS), such as
    /// `ARRAY(SELECT DISTINCT user_id FROM read) AS user_ids`. It is also evaluated over no rows.
    const BATCH: &'static str;

    /// The weight of a row towards [`MAX_WEIGHT`](Self::MAX_WEIGHT), 1 or more: an expression over the columns.
    const WEIGHT: &'static str = "1";

    /// The weight that is read at once. A single row that weighs more is read all the same.
    const MAX_WEIGHT: i64;
}

/// Reads the outbox of a [`Source`]. Holds no position: the caller keeps it, in memory or stored.
#[derive(Debug, Clone)]
pub struct Reader<S> {
    database: Database,
    statement: Arc<str>,
    max_age: Duration,
    source: PhantomData<fn() -> S>,
}

/// The result of one read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read<B> {
    /// The rows committed since the position, or `None` for a gap: any change may have been missed, so everything that
    /// depends on the outbox must be read again, after this read.
    pub batch: Option<B>,
    /// True if nothing was left. Otherwise the next read returns the next part, or the position
    /// [skips it](Position::skip_rest).
    pub is_whole: bool,
    /// The position from which the next read continues.
    pub position: Position,
}

impl<S: Source> Reader<S> {
    /// Prepares to read. `retention` is for how long all [`Trimmer`](super::Trimmer)s of the table keep rows.
    pub fn new(database: Database, retention: Duration) -> Self {
        Self { database, statement: statement::<S>().into(), max_age: retention.mul_f64(MAX_AGE), source: PhantomData }
    }

    /// Reads what has been committed since the position: nothing is missing, however late its transaction committed, and
    /// nothing is read twice. Without a position it is a gap, and the position returned is where reading begins.
    ///
    /// # Errors
    /// The database cannot be reached or fails. The position stays valid.
    pub async fn read(&self, last: Option<&Position>) -> Result<Read<S::Batch>, Error> {
        let taken = Instant::now();
        let rest = last.and_then(|last| last.rest.as_ref());
        let (xact_id, outbox_id) = rest.map_or((0, i64::MIN), |rest| rest.after);
        // In the order of the parameters of `statement`.
        let query = sqlx::query_as(AssertSqlSafe(self.statement.clone()))
            .bind(last.map(|last| last.seen.text.as_str()))
            .bind(rest.map(|rest| rest.until.text.as_str()))
            .bind(xact_id.to_string())
            .bind(outbox_id)
            .bind(S::MAX_WEIGHT);
        let row: ReadRow<S::Batch> = self.database.fetch_one(query).await?;
        Ok(row.after(last, taken, self.max_age))
    }
}

/// Builds the one statement. Its own snapshot decides which rows it reads. What the last snapshot could not see is of the
/// transactions that were open in it and of those that had not begun: two ranges of the index on `xact_id`, the first wholly
/// before the second. So a transaction that stays open, of whichever database of the server, costs one look-up. A row of a
/// transaction that has not begun on this server is beyond the second: a restore copied it from another one.
fn statement<S: Source>() -> String {
    let (table, columns, weight, batch) = (S::TABLE, S::COLUMNS, S::WEIGHT, S::BATCH);
    let unread = |range: &str| {
        format!(
            "(
                SELECT {columns}, xact_id, outbox_id
                FROM {table}
                WHERE {range}
                    AND pg_visible_in_snapshot(xact_id, coalesce($2::pg_snapshot, pg_current_snapshot()))
                    AND (xact_id, outbox_id) > ($3::xid8, $4::bigint)
                ORDER BY xact_id, outbox_id
                LIMIT $5 + 1
            )"
        )
    };
    let open = unread("xact_id = ANY (ARRAY(SELECT pg_snapshot_xip($1::pg_snapshot)))");
    let begun_since = unread(
        "xact_id >= pg_snapshot_xmax($1::pg_snapshot)
                    AND xact_id < pg_snapshot_xmax(coalesce($2::pg_snapshot, pg_current_snapshot()))",
    );
    format!(
        "WITH found AS MATERIALIZED (
            SELECT {columns}, xact_id AS outbox_xact_id, outbox_id AS outbox_row_id,
                sum({weight}) OVER (ORDER BY xact_id, outbox_id ROWS UNBOUNDED PRECEDING) - ({weight}) AS weight_before
            FROM ({open} UNION ALL {begun_since}) AS unread
            ORDER BY xact_id, outbox_id
            LIMIT $5 + 1
        ), read AS MATERIALIZED (
            SELECT * FROM found WHERE weight_before < $5
        ), last AS (
            SELECT outbox_xact_id, outbox_row_id FROM read ORDER BY outbox_xact_id DESC, outbox_row_id DESC LIMIT 1
        )
        SELECT (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint AS position_server,
            '{table}'::regclass::oid::bigint AS position_table,
            (extract(epoch FROM statement_timestamp()) * 1000000)::bigint AS position_at,
            pg_current_snapshot()::text AS position_snapshot,
            (SELECT count(*) FROM found) > (SELECT count(*) FROM read) AS position_has_rest,
            (SELECT outbox_xact_id::text FROM last) AS position_xact_id,
            (SELECT outbox_row_id FROM last) AS position_outbox_id,
            {batch}"
    )
}

/// A row of the statement.
struct ReadRow<B> {
    history: History,
    at: i64,
    snapshot: String,
    /// The last row that was read, if rows are left.
    left_after: Option<(u64, i64)>,
    batch: B,
}

impl<B: for<'r> FromRow<'r, PgRow>> FromRow<'_, PgRow> for ReadRow<B> {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        let history = History { server: row.try_get("position_server")?, table: row.try_get("position_table")? };
        let left_after = if row.try_get("position_has_rest")? {
            let xact_id: &str = row.try_get("position_xact_id")?;
            let xact_id = xact_id.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
            Some((xact_id, row.try_get("position_outbox_id")?))
        } else {
            None
        };
        Ok(Self {
            history,
            at: row.try_get("position_at")?,
            snapshot: row.try_get("position_snapshot")?,
            left_after,
            batch: B::from_row(row)?,
        })
    }
}

impl<B> ReadRow<B> {
    fn after(self, last: Option<&Position>, taken: Instant, max_age: Duration) -> Read<B> {
        let Self { history, at, snapshot, left_after, batch } = self;
        let now = Snapshot { text: snapshot, at, taken: Some(taken) };
        let Some(last) = last.filter(|last| last.is_continued_by(history, &now, max_age)) else {
            return Read { batch: None, is_whole: true, position: Position { history, seen: now, rest: None } };
        };
        let until = last.rest.as_ref().map_or(now, |rest| rest.until.clone());
        let (is_whole, position) = match left_after {
            None => (last.rest.is_none(), Position { history, seen: until, rest: None }),
            Some(after) => (false, Position { history, seen: last.seen.clone(), rest: Some(Rest { until, after }) }),
        };
        Read { batch: Some(batch), is_whole, position }
    }
}
