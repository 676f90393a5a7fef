//! The outbox: one row for each transaction that took a sequence. Written by the write path, read and trimmed here.

use sqlx::types::Json;

use super::{Error, Store, position};
use crate::{
    domain::{
        ids::{ConversationId, UserId},
        sequence::Position,
    },
    planted::{self, Bug},
};

/// The most that is read at a time, counting transactions, the conversations of each and the users added in each.
const READ: i64 = 20_000;

/// The most rows deleted at a time.
const TRIM: i64 = 10_000;

/// A point in the history of transactions: everything below it had ended when it was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Horizon(String);

/// What a reader of the outbox has seen: every transaction visible in this snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    /// When the server was started: another time is another server, or one with another history.
    server: String,
    snapshot: String,
    /// The first transaction that had not begun.
    next: i64,
}

impl Seen {
    /// True when the history that was seen before is part of what is seen now.
    pub(crate) fn continues(&self, before: &Self) -> bool {
        self.server == before.server && self.next >= before.next
    }
}

impl From<(Vec<String>, Vec<String>)> for Joins {
    fn from((user_ids, conversation_ids): (Vec<String>, Vec<String>)) -> Self {
        Self {
            user_ids: user_ids.into_iter().map(UserId::from_storage).collect(),
            conversation_ids: conversation_ids.into_iter().map(ConversationId::from_storage).collect(),
        }
    }
}

/// What was committed since the outbox was read before.
#[derive(Debug)]
pub(crate) struct News {
    pub(crate) seen: Seen,
    /// The heads of conversations with new entries.
    pub(crate) heads: Vec<(ConversationId, Position)>,
    /// Users who were added, each with conversations of which they were added to one or more.
    pub(crate) joins: Vec<Joins>,
    /// There was not more than is read at a time; else nothing is told but that.
    pub(crate) is_whole: bool,
}

/// Users who were added in one transaction, and the conversations that it was about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Joins {
    pub(crate) user_ids: Vec<UserId>,
    pub(crate) conversation_ids: Vec<ConversationId>,
}

#[derive(Debug, sqlx::FromRow)]
struct NewsRow {
    server: String,
    snapshot: String,
    next: i64,
    read: i64,
    conversation_ids: Vec<String>,
    last_sequences: Vec<i64>,
    joins: Json<Vec<(Vec<String>, Vec<String>)>>,
}

// The new snapshot is that of the statement: what it does not show is what the next one asks for. A transaction is asked for
// by what the old snapshot could see and not by its number, since it may commit long after later ones. A row of a transaction
// that has not begun here can be visible only because a restore brought it along from another server; read at every poll, it
// would tell nothing new each time.
const READ_NEWS: &str = "
    WITH new AS MATERIALIZED (
        SELECT o.conversation_ids, o.last_sequences, o.user_ids
        FROM parlance_message.outbox AS o
        WHERE o.xact_id >= pg_snapshot_xmin($1::pg_snapshot) AND NOT pg_visible_in_snapshot(o.xact_id, $1::pg_snapshot)
            AND o.xact_id < pg_snapshot_xmax(pg_current_snapshot())
        LIMIT $2 + 1
    ), counted AS (
        SELECT greatest(count(*), coalesce(sum(cardinality(conversation_ids)), 0), coalesce(sum(cardinality(user_ids)), 0))
            AS read
        FROM new
    ), heads AS (
        SELECT u.conversation_id, max(u.last_sequence) AS last_sequence
        FROM new, unnest(new.conversation_ids, new.last_sequences) AS u (conversation_id, last_sequence)
        WHERE (SELECT read FROM counted) <= $2
        GROUP BY u.conversation_id
    )
    SELECT pg_postmaster_start_time()::text AS server, pg_current_snapshot()::text AS snapshot,
        pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS next, (SELECT read FROM counted) AS read,
        coalesce((SELECT array_agg(conversation_id ORDER BY conversation_id) FROM heads), '{}') AS conversation_ids,
        coalesce((SELECT array_agg(last_sequence ORDER BY conversation_id) FROM heads), '{}') AS last_sequences,
        coalesce((
            SELECT jsonb_agg(jsonb_build_array(to_jsonb(new.user_ids), to_jsonb(new.conversation_ids)))
            FROM new
            WHERE cardinality(new.user_ids) > 0 AND (SELECT read FROM counted) <= $2
        ), '[]') AS joins";

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

// What a restore brought along: it would stay until this server has had as many transactions as the other one.
const TRIM_FOREIGN: &str = "
    DELETE FROM parlance_message.outbox
    WHERE outbox_id IN (
        SELECT outbox_id
        FROM parlance_message.outbox
        WHERE xact_id >= pg_snapshot_xmax(pg_current_snapshot())
        ORDER BY xact_id
        LIMIT $1
        FOR UPDATE SKIP LOCKED
    )";

impl Store {
    /// Reads what was committed since `last`: nothing is left out however late its transaction committed, and nothing comes
    /// twice, as long as `last` is younger than what [`trim_outbox`](Self::trim_outbox) keeps. Without `last` it only begins.
    pub(crate) async fn read_outbox(&self, last: Option<&Seen>) -> Result<News, Error> {
        let by_number = |last: &Seen| format!("{0}:{0}:", last.next);
        let seen = |last: &Seen| if planted::is(Bug::OutboxByNumber) { by_number(last) } else { last.snapshot.clone() };
        let query = sqlx::query_as(READ_NEWS).bind(last.map(seen)).bind(READ);
        let row: NewsRow = self.database.fetch_one(query).await?;
        let heads = row.conversation_ids.into_iter().zip(row.last_sequences);
        let heads =
            heads.map(|(id, head)| Ok((ConversationId::from_storage(id), position(head, "outbox.last_sequences")?)));
        Ok(News {
            seen: Seen { server: row.server, snapshot: row.snapshot, next: row.next },
            heads: heads.collect::<Result<_, Error>>()?,
            joins: row.joins.0.into_iter().map(Joins::from).collect(),
            is_whole: row.read <= READ,
        })
    }

    /// The horizon as it is now.
    pub(crate) async fn horizon(&self) -> Result<Horizon, Error> {
        let (xmin,): (String,) = self.database.fetch_one(sqlx::query_as(HORIZON)).await?;
        Ok(Horizon(xmin))
    }

    /// Deletes rows of transactions below the horizon and rows of another server, at most 10,000 of each; gives their number.
    /// Replicas that do this at the same time share the work. Read along `outbox_xact_id_idx`.
    pub(crate) async fn trim_outbox(&self, below: &Horizon) -> Result<u64, Error> {
        let old = self.database.execute(sqlx::query(TRIM_BELOW).bind(&below.0).bind(TRIM)).await?;
        let foreign = self.database.execute(sqlx::query(TRIM_FOREIGN).bind(TRIM)).await?;
        Ok(old + foreign)
    }

    /// True when a call of [`trim_outbox`](Self::trim_outbox) that deleted this many may have left some.
    pub(crate) fn is_full_trim(deleted: u64) -> bool {
        deleted >= TRIM as u64
    }
}

#[cfg(test)]
mod tests {
    use sqlx::{Connection, Executor, postgres::PgArguments};

    use super::*;
    use crate::storage::testing::TestDatabase;

    fn at(number: i64) -> Position {
        Position::new(number).unwrap()
    }

    const ROW: &str = "
        INSERT INTO parlance_message.outbox (conversation_ids, last_sequences, user_ids, created_at)
        VALUES ('{}', '{}', '{}', now())";

    #[tokio::test]
    async fn what_had_not_ended_at_the_horizon_stays() {
        let fresh = TestDatabase::new("trim").await;
        let store = &fresh.store;
        let mut late = fresh.settings.open().await.unwrap();
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
        fresh.drop().await;
    }

    #[tokio::test]
    async fn who_was_added_is_told_with_what_the_transaction_was_about() {
        let fresh = TestDatabase::new("joins").await;
        let store = &fresh.store;
        let begun = store.read_outbox(None).await.unwrap();
        let add = "
            INSERT INTO parlance_message.outbox (conversation_ids, last_sequences, user_ids, created_at)
            VALUES (ARRAY['a', 'b'], ARRAY[4, 9], ARRAY['ann', 'ben'], now())";
        store.database.execute(sqlx::query(add)).await.unwrap();
        store.database.execute(row("c", 1)).await.unwrap();
        let news = store.read_outbox(Some(&begun.seen)).await.unwrap();
        let both = Joins { user_ids: vec!["ann".into(), "ben".into()], conversation_ids: vec!["a".into(), "b".into()] };
        assert_eq!(news.joins, [both]);
        assert_eq!(news.heads, [("a".into(), at(4)), ("b".into(), at(9)), ("c".into(), at(1))]);
        fresh.drop().await;
    }

    fn row(conversation_id: &str, last_sequence: i64) -> sqlx::query::Query<'_, sqlx::Postgres, PgArguments> {
        sqlx::query(
            "INSERT INTO parlance_message.outbox (conversation_ids, last_sequences, user_ids, created_at)
             VALUES (ARRAY[$1], ARRAY[$2::bigint], '{}', now())",
        )
        .bind(conversation_id)
        .bind(last_sequence)
    }

    #[tokio::test]
    async fn each_transaction_is_read_once_after_its_commit_however_late_that_is() {
        let fresh = TestDatabase::new("read").await;
        let store = &fresh.store;
        store.database.execute(row("before", 1)).await.unwrap();
        let mut open = Vec::new();
        for (number, id) in ["a", "b", "undone"].into_iter().enumerate() {
            let mut connection = fresh.settings.open().await.unwrap();
            connection.execute("BEGIN").await.unwrap();
            row(id, number as i64).execute(&mut connection).await.unwrap();
            open.push(connection);
        }
        let begun = store.read_outbox(None).await.unwrap();
        assert!(begun.heads.is_empty() && begun.is_whole);

        let mut last = begun.seen;
        let mut read = async || {
            let news = store.read_outbox(Some(&last)).await.unwrap();
            assert!(news.is_whole && news.seen.continues(&last));
            last = news.seen;
            let mut heads: Vec<_> = news.heads.into_iter().map(|(id, head)| (id.to_string(), head.get())).collect();
            heads.sort();
            heads
        };
        assert_eq!(read().await, []);
        for sequence in 5..8 {
            store.database.execute(row("c", sequence)).await.unwrap();
        }
        store.database.execute(row("d", 2)).await.unwrap();
        assert_eq!(read().await, [("c".to_owned(), 7), ("d".to_owned(), 2)]);
        assert_eq!(read().await, []);
        open[1].execute("COMMIT").await.unwrap();
        assert_eq!(read().await, [("b".to_owned(), 1)]);
        open[2].execute("ROLLBACK").await.unwrap();
        store.database.execute(row("c", 8)).await.unwrap();
        assert_eq!(read().await, [("c".to_owned(), 8)]);
        open[0].execute("COMMIT").await.unwrap();
        assert_eq!(read().await, [("a".to_owned(), 0)]);
        assert_eq!(read().await, []);
        fresh.drop().await;
    }

    #[tokio::test]
    async fn more_than_is_read_at_a_time_is_said() {
        let fresh = TestDatabase::new("much").await;
        let store = &fresh.store;
        let begun = store.read_outbox(None).await.unwrap();
        let fill = "
            INSERT INTO parlance_message.outbox (conversation_ids, last_sequences, user_ids, created_at)
            SELECT array_agg('c' || n), array_agg(n), '{}', now() FROM generate_series(1, $1) AS n GROUP BY n % 50";
        store.database.execute(sqlx::query(fill).bind(READ)).await.unwrap();
        let all = store.read_outbox(Some(&begun.seen)).await.unwrap();
        assert_eq!((all.heads.len() as i64, all.is_whole), (READ, true));
        store.database.execute(row("c", 1)).await.unwrap();
        let more = store.read_outbox(Some(&begun.seen)).await.unwrap();
        assert!(!more.is_whole && more.heads.is_empty());
        assert!(store.read_outbox(Some(&all.seen)).await.unwrap().is_whole);
        fresh.drop().await;
    }

    /// What a restore brings along from a server whose transactions have higher numbers than this one's ever had.
    const OF_ANOTHER_SERVER: &str = "
        INSERT INTO parlance_message.outbox (xact_id, conversation_ids, last_sequences, user_ids, created_at)
        SELECT '4000000000000'::xid8, ARRAY['old' || n], ARRAY[7], ARRAY['ann'], now() FROM generate_series(1, 20001) AS n";

    #[tokio::test]
    async fn what_another_server_wrote_is_neither_read_nor_kept() {
        let fresh = TestDatabase::new("restored").await;
        let store = &fresh.store;
        store.database.execute(sqlx::query(OF_ANOTHER_SERVER)).await.unwrap();
        let begun = store.read_outbox(None).await.unwrap();
        store.database.execute(row("c", 1)).await.unwrap();
        let news = store.read_outbox(Some(&begun.seen)).await.unwrap();
        assert_eq!((news.heads, news.is_whole, news.joins), (vec![("c".into(), at(1))], true, vec![]));

        let horizon = store.horizon().await.unwrap();
        while Store::is_full_trim(store.trim_outbox(&horizon).await.unwrap()) {}
        let left: Vec<(i64,)> = store
            .database
            .fetch_all(sqlx::query_as("SELECT count(*) FROM parlance_message.outbox WHERE conversation_ids <> '{c}'"))
            .await
            .unwrap();
        assert_eq!(left, [(0,)]);
        fresh.drop().await;
    }

    #[test]
    fn another_server_or_a_step_back_does_not_continue() {
        let seen = |server: &str, next| Seen { server: server.into(), snapshot: String::new(), next };
        assert!(seen("a", 7).continues(&seen("a", 7)));
        assert!(seen("a", 8).continues(&seen("a", 7)));
        assert!(!seen("a", 6).continues(&seen("a", 7)));
        assert!(!seen("b", 9).continues(&seen("a", 7)));
    }
}
