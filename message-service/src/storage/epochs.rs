//! Epochs of the log, and the positions of earlier epochs that survived.

use service_kit::database::bounded;

use super::{Error, Store, WriterConnection, position};
use crate::domain::{epoch::Epoch, ids::ConversationId, sequence::Position};

const ENTER: &str = "SELECT parlance_message.enter_epoch_v1()";

const LEAVE: &str = "SELECT FROM parlance_message.leave_epoch_v1($1)";

/// The most entries of each table that are searched for the last one that survived. If it is further back, the client reads
/// the conversation from its beginning.
const MAX_SEARCHED: i64 = 100;

// Looks up the entry at the position, which is old enough unless it was lost; else reads along `messages_pkey` and
// `changes_pkey`, backwards to the first entry that is old enough: past the entries that took the numbers of lost ones. An
// epoch that does not exist was lost itself, and nothing of it is known.
const SURVIVING: &str = "
    WITH given AS (
        SELECT epoch_id FROM parlance_message.epochs WHERE epoch = $1
    ), next AS (
        SELECT began_at
        FROM parlance_message.epochs
        WHERE epoch_id > (SELECT epoch_id FROM given)
        ORDER BY epoch_id
        LIMIT 1
    )
    SELECT u.conversation_id,
        CASE
            WHEN NOT EXISTS (SELECT FROM given) THEN 0
            WHEN NOT EXISTS (SELECT FROM next) THEN u.position
            WHEN EXISTS (
                SELECT FROM parlance_message.messages AS m
                WHERE m.conversation_id = u.conversation_id AND m.sequence = u.position
                    AND m.created_at < (SELECT began_at FROM next)
            ) OR EXISTS (
                SELECT FROM parlance_message.changes AS c
                WHERE c.conversation_id = u.conversation_id AND c.sequence = u.position
                    AND c.created_at < (SELECT began_at FROM next)
            ) THEN u.position
            ELSE greatest(
                (
                    SELECT max(found.sequence)
                    FROM (
                        SELECT m.sequence, m.created_at
                        FROM parlance_message.messages AS m
                        WHERE m.conversation_id = u.conversation_id AND m.sequence <= u.position
                        ORDER BY m.sequence DESC
                        LIMIT $4
                    ) AS found
                    WHERE found.created_at < (SELECT began_at FROM next)
                ),
                (
                    SELECT max(found.sequence)
                    FROM (
                        SELECT c.sequence, c.created_at
                        FROM parlance_message.changes AS c
                        WHERE c.conversation_id = u.conversation_id AND c.sequence <= u.position
                        ORDER BY c.sequence DESC
                        LIMIT $4
                    ) AS found
                    WHERE found.created_at < (SELECT began_at FROM next)
                ),
                0
            )
        END
    FROM unnest($2::text[], $3::bigint[]) AS u (conversation_id, position)";

impl Store {
    /// Returns the current epoch, which begins here if the database is another than before.
    pub(crate) async fn enter_epoch(&self) -> Result<Epoch, Error> {
        let (name,): (String,) = self.database.fetch_one(sqlx::query_as(ENTER)).await?;
        Ok(Epoch::from_storage(&name))
    }

    /// Ends an epoch of which the database was set back while its server ran on; without effect unless it is the current one.
    pub(crate) async fn leave_epoch(&self, epoch: &Epoch) -> Result<(), Error> {
        self.database.execute(sqlx::query(LEAVE).bind(epoch.as_str())).await?;
        Ok(())
    }

    /// Returns for each of these positions of an earlier epoch the last one that is still the same log: itself if nothing up
    /// to it was lost. Of an unknown epoch nothing survived. At most [`MAX_LISTED`](super::memberships::MAX_LISTED).
    pub(crate) async fn find_surviving(
        &self,
        epoch: &Epoch,
        positions: &[(&ConversationId, Position)],
    ) -> Result<Vec<(ConversationId, Position)>, Error> {
        let ids: Vec<&str> = positions.iter().map(|(id, _)| id.as_str()).collect();
        let numbers: Vec<i64> = positions.iter().map(|(_, position)| position.get()).collect();
        let query = sqlx::query_as(SURVIVING).bind(epoch.as_str()).bind(ids).bind(numbers).bind(MAX_SEARCHED);
        let rows: Vec<(String, i64)> = self.database.fetch_all(query).await?;
        let surviving = |(id, number)| Ok((ConversationId::from_storage(id), position(number, "sequence")?));
        rows.into_iter().map(surviving).collect()
    }
}

impl WriterConnection {
    /// Returns the epoch that the open connection writes to.
    pub(crate) fn epoch(&self) -> Option<&Epoch> {
        self.epoch.as_ref()
    }

    /// Enters the epoch of the server that a new connection is to.
    pub(super) async fn enter_epoch(&mut self) -> Result<Epoch, Error> {
        let mut session = self.kept.take().await?;
        let query = sqlx::query_as(ENTER).fetch_one(session.connection());
        let entered = bounded(self.kept.settings().timeout, query).await;
        // A session that refuses the statement is replaced, too: the next one may be to another server.
        let entered = entered.map_err(|error| if error.is_outage() { error } else { Error::of_connecting(error) });
        let (name,): (String,) = self.kept.settle(session, entered)?;
        Ok(Epoch::from_storage(&name))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sqlx::{AssertSqlSafe, Executor};

    use super::*;
    use crate::storage::testing::TestDatabase;

    #[tokio::test]
    async fn whatever_a_new_session_refuses_nothing_was_sent() {
        let test = TestDatabase::new("new_session").await;
        let mut admin = test.settings.open().await.unwrap();
        let mut connection = test.store.writer_connection(Duration::from_secs(2));
        for (refused, restored) in [
            (
                "ALTER FUNCTION parlance_message.enter_epoch_v1() RENAME TO hidden",
                "ALTER FUNCTION parlance_message.hidden() RENAME TO enter_epoch_v1",
            ),
            ("BEGIN; LOCK parlance_message.epochs IN ACCESS EXCLUSIVE MODE", "COMMIT"),
        ] {
            admin.execute(sqlx::raw_sql(AssertSqlSafe(refused))).await.unwrap();
            let error = connection.open().await.unwrap_err();
            assert!(matches!(error, Error::NotConnected(_)) && connection.epoch().is_none(), "{refused}: {error:?}");
            admin.execute(sqlx::raw_sql(AssertSqlSafe(restored))).await.unwrap();
        }
        connection.open().await.unwrap();
        assert!(connection.epoch().is_some());
        test.drop().await;
    }

    #[tokio::test]
    async fn an_epoch_is_left_once() {
        let test = TestDatabase::new("leave_epoch").await;
        let first = test.store.enter_epoch().await.unwrap();
        assert_eq!(test.store.enter_epoch().await.unwrap(), first);
        test.store.leave_epoch(&first).await.unwrap();
        let second = test.store.enter_epoch().await.unwrap();
        assert_ne!(second, first);
        // Another replica finds the same later.
        test.store.leave_epoch(&first).await.unwrap();
        assert_eq!(test.store.enter_epoch().await.unwrap(), second);
        test.drop().await;
    }
}
