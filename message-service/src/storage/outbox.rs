//! The outbox: one row for each committed transaction that took a sequence, written by the write path.

use std::time::Duration;

use service_kit::database::outbox::{Position as OutboxPosition, Read, Reader, Source, Trimmer};
use sqlx::{FromRow, Row, postgres::PgRow, types::Json};

use super::{Error, Store};
use crate::{
    domain::{
        ids::{ConversationId, UserId},
        sequence::Position,
    },
    planted,
};

/// The outbox of the log.
#[derive(Debug)]
pub(crate) struct Commits;

/// The changes committed since a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Committed {
    /// The heads of conversations with new entries, each once.
    pub(crate) heads: Vec<(ConversationId, Position)>,
    /// The users added, each with conversations of which they were added to one or more.
    pub(crate) joins: Vec<Joins>,
}

/// The users added in one transaction, and the conversations that it changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Joins {
    pub(crate) user_ids: Vec<UserId>,
    pub(crate) conversation_ids: Vec<ConversationId>,
}

impl Source for Commits {
    type Batch = Committed;

    const TABLE: &'static str = "parlance_message.outbox";
    const COLUMNS: &'static str = "conversation_ids, last_sequences, user_ids";
    const BATCH: &'static str = "
        ARRAY(
            SELECT (u.conversation_id, max(u.last_sequence))
            FROM read, unnest(read.conversation_ids, read.last_sequences) AS u (conversation_id, last_sequence)
            GROUP BY u.conversation_id
        ) AS heads,
        (
            SELECT coalesce(jsonb_agg(jsonb_build_array(to_jsonb(read.user_ids), to_jsonb(read.conversation_ids))), '[]')
            FROM read
            WHERE cardinality(read.user_ids) > 0
        ) AS joins";
    const WEIGHT: &'static str = "greatest(1, cardinality(conversation_ids), cardinality(user_ids))";
    const MAX_WEIGHT: i64 = 20_000;
}

impl FromRow<'_, PgRow> for Committed {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        let heads: Vec<(String, i64)> = row.try_get("heads")?;
        let Json(joins) = row.try_get::<Json<Vec<(Vec<String>, Vec<String>)>>, _>("joins")?;
        let head = |(id, number): (String, i64)| {
            let head = Position::new(number);
            let head = head.ok_or_else(|| sqlx::Error::Decode(format!("outbox.last_sequences {number}").into()))?;
            Ok((ConversationId::from_storage(id), head))
        };
        let join = |(user_ids, conversation_ids): (Vec<String>, Vec<String>)| Joins {
            user_ids: user_ids.into_iter().map(UserId::from_storage).collect(),
            conversation_ids: conversation_ids.into_iter().map(ConversationId::from_storage).collect(),
        };
        Ok(Self {
            heads: heads.into_iter().map(head).collect::<Result<_, sqlx::Error>>()?,
            joins: joins.into_iter().map(join).collect(),
        })
    }
}

/// Reads the outbox.
#[derive(Debug)]
pub(crate) struct CommitReader(Reader<Commits>);

impl CommitReader {
    /// Reads what was committed since the position; without a position, or after a gap, there is no batch, and everything
    /// that depends on the outbox must be read again after this.
    ///
    /// # Errors
    /// The database cannot be reached or fails. The position is as good as before.
    pub(crate) async fn read(&self, last: Option<&OutboxPosition>) -> Result<Read<Committed>, Error> {
        let planted = last.and_then(planted::outbox_position);
        self.0.read(planted.as_ref().or(last)).await
    }
}

impl Store {
    /// Returns the reader of the outbox. `retention` is the time for which all replicas keep rows.
    pub(crate) fn commits(&self, retention: Duration) -> CommitReader {
        CommitReader(Reader::new(self.database.clone(), retention))
    }

    /// Returns the trimmer of the outbox.
    pub(crate) fn trimmer(&self, retention: Duration) -> Trimmer {
        Trimmer::new(self.database.clone(), Commits::TABLE, retention)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use sqlx::{Executor, Postgres, postgres::PgArguments, query::Query};

    use super::*;
    use crate::storage::testing::TestDatabase;

    const RETENTION: Duration = Duration::from_mins(5);

    struct Fresh {
        database: TestDatabase,
        commits: CommitReader,
    }

    impl Fresh {
        async fn new(of: &str) -> Self {
            let database = TestDatabase::new(of).await;
            let commits = database.store.commits(RETENTION);
            Self { database, commits }
        }

        /// Returns the position at the end of the outbox.
        async fn begin(&self) -> OutboxPosition {
            let read = self.commits.read(None).await.unwrap();
            assert!(read.batch.is_none());
            read.position
        }

        async fn insert(&self, conversation_id: &str, last_sequence: i64) {
            self.database.store.database.execute(row(conversation_id, last_sequence)).await.unwrap();
        }

        async fn drop(self) {
            self.database.drop().await;
        }
    }

    fn row(conversation_id: &str, last_sequence: i64) -> Query<'_, Postgres, PgArguments> {
        sqlx::query(
            "INSERT INTO parlance_message.outbox (conversation_ids, last_sequences, user_ids, created_at)
             VALUES (ARRAY[$1], ARRAY[$2::bigint], '{}', now())",
        )
        .bind(conversation_id)
        .bind(last_sequence)
    }

    fn heads(committed: Option<Committed>) -> Vec<(String, i64)> {
        let heads = committed.expect("a gap").heads.into_iter();
        let mut heads: Vec<_> = heads.map(|(id, head)| (id.to_string(), head.get())).collect();
        heads.sort();
        heads
    }

    #[tokio::test]
    async fn added_users_come_with_the_conversations_of_their_transaction() {
        let fresh = Fresh::new("joins").await;
        let begin = fresh.begin().await;
        let add = "
            INSERT INTO parlance_message.outbox (conversation_ids, last_sequences, user_ids, created_at)
            VALUES (ARRAY['a', 'b'], ARRAY[4, 9], ARRAY['ann', 'ben'], now())";
        fresh.database.store.database.execute(sqlx::query(add)).await.unwrap();
        fresh.insert("c", 1).await;
        let read = fresh.commits.read(Some(&begin)).await.unwrap();
        let both = Joins { user_ids: vec!["ann".into(), "ben".into()], conversation_ids: vec!["a".into(), "b".into()] };
        assert_eq!(read.batch.as_ref().unwrap().joins, [both]);
        assert_eq!(heads(read.batch), [("a".to_owned(), 4), ("b".to_owned(), 9), ("c".to_owned(), 1)]);
        fresh.drop().await;
    }

    #[tokio::test]
    async fn each_transaction_is_read_once_after_its_commit_however_late_that_is() {
        let fresh = Fresh::new("read").await;
        fresh.insert("before", 1).await;
        let mut late = fresh.database.settings.open().await.unwrap();
        late.execute("BEGIN").await.unwrap();
        row("late", 3).execute(&mut late).await.unwrap();
        let mut position = fresh.begin().await;
        let mut read = async || {
            let read = fresh.commits.read(Some(&position)).await.unwrap();
            assert!(read.is_whole);
            position = read.position;
            heads(read.batch)
        };
        assert_eq!(read().await, []);
        for sequence in 5..8 {
            fresh.insert("c", sequence).await;
        }
        assert_eq!(read().await, [("c".to_owned(), 7)]);
        late.execute("COMMIT").await.unwrap();
        assert_eq!(read().await, [("late".to_owned(), 3)]);
        assert_eq!(read().await, []);
        fresh.drop().await;
    }

    #[tokio::test]
    async fn more_than_is_read_at_once_comes_in_parts() {
        let fresh = Fresh::new("parts").await;
        let mut position = fresh.begin().await;
        let fill = "
            INSERT INTO parlance_message.outbox (conversation_ids, last_sequences, user_ids, created_at)
            SELECT array_agg('c' || n), array_agg(n), '{}', now() FROM generate_series(1, $1) AS n GROUP BY n % 50";
        fresh.database.store.database.execute(sqlx::query(fill).bind(2 * Commits::MAX_WEIGHT + 1)).await.unwrap();
        let (mut parts, mut read) = (Vec::new(), HashMap::new());
        loop {
            let part = fresh.commits.read(Some(&position)).await.unwrap();
            position = part.position;
            let heads = part.batch.unwrap().heads;
            parts.push(heads.len());
            read.extend(heads);
            if part.is_whole {
                break;
            }
        }
        assert_eq!(read.len() as i64, 2 * Commits::MAX_WEIGHT + 1);
        assert!(parts.len() > 2 && parts.iter().all(|part| (*part as i64) < 2 * Commits::MAX_WEIGHT), "{parts:?}");
        fresh.drop().await;
    }

    #[tokio::test]
    async fn many_added_users_come_in_parts() {
        let fresh = Fresh::new("many_users").await;
        let begin = fresh.begin().await;
        // Two of the three rows weigh more than one read takes together.
        let fill = "
            INSERT INTO parlance_message.outbox (conversation_ids, last_sequences, user_ids, created_at)
            SELECT ARRAY['c' || g], ARRAY[1], (SELECT array_agg('u' || g || '.' || n) FROM generate_series(1, $1) AS n), now()
            FROM generate_series(1, 3) AS g";
        fresh.database.store.database.execute(sqlx::query(fill).bind(Commits::MAX_WEIGHT / 2 + 1)).await.unwrap();
        let first = fresh.commits.read(Some(&begin)).await.unwrap();
        assert!(!first.is_whole);
        assert_eq!(first.batch.unwrap().joins.len(), 2, "a row is read if less than the limit comes before it");
        let second = fresh.commits.read(Some(&first.position)).await.unwrap();
        assert_eq!(second.batch.unwrap().joins.len(), 1);
        fresh.drop().await;
    }

    /// Rows that a restore brings along from a server whose transactions have higher numbers than this one's ever had.
    const OF_ANOTHER_SERVER: &str = "
        INSERT INTO parlance_message.outbox (xact_id, conversation_ids, last_sequences, user_ids, created_at)
        SELECT '4000000000000'::xid8, ARRAY['old' || n], ARRAY[7], ARRAY['ann'], now() FROM generate_series(1, 20001) AS n";

    #[tokio::test]
    async fn rows_of_another_server_are_neither_read_nor_kept() {
        let fresh = Fresh::new("restored").await;
        fresh.database.store.database.execute(sqlx::query(OF_ANOTHER_SERVER)).await.unwrap();
        let begin = fresh.begin().await;
        fresh.insert("c", 1).await;
        let read = fresh.commits.read(Some(&begin)).await.unwrap();
        assert!(read.is_whole && read.batch.as_ref().unwrap().joins.is_empty());
        assert_eq!(heads(read.batch), [("c".to_owned(), 1)]);

        let trimmer = fresh.database.store.trimmer(RETENTION);
        let horizon = trimmer.horizon().await.unwrap();
        while trimmer.delete_below(&horizon).await.unwrap() > 1 {}
        let count = "SELECT count(*) FROM parlance_message.outbox WHERE conversation_ids <> '{c}'";
        let (left,): (i64,) = fresh.database.store.database.fetch_one(sqlx::query_as(count)).await.unwrap();
        assert_eq!(left, 0);
        fresh.drop().await;
    }
}
