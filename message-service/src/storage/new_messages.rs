//! New messages of many conversations, read in one statement by a replica that follows them.

use sqlx::FromRow;

use super::{Error, Store, entry::EntryRow};
use crate::domain::{event::Event, ids::ConversationId, sequence::Position};

/// The part of a log between the head that a replica knows and the one that was committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gap {
    pub(crate) conversation_id: ConversationId,
    pub(crate) after: Position,
    pub(crate) until: Position,
}

impl Gap {
    /// Returns the number of its entries.
    pub(crate) fn len(&self) -> i64 {
        self.after.entries_until(self.until)
    }
}

#[derive(Debug, FromRow)]
struct NewRow {
    n: i64,
    #[sqlx(flatten)]
    entry: EntryRow,
}

// Reads along `messages_pkey`, one range of it for each gap.
const READ: &str = "
    SELECT sized.*
    FROM (
        SELECT u.n, m.sequence, 0::smallint AS kind, m.sender_id AS actor_id, m.created_at, NULL::text AS user_id,
            NULL::smallint AS role, NULL::timestamptz AS joined_at, NULL::text AS title, NULL::bigint AS version,
            NULL::jsonb AS detail, m.sequence AS message_sequence, m.ordinal, m.sender_id, m.request_id, m.text,
            m.attributes, m.reply_to_sequence, m.created_at AS message_created_at, m.edited_at, m.deleted_at,
            m.change_sequence,
            sum(octet_length(m.text) + coalesce(octet_length(m.attributes::text), 0) + 256)
                OVER (ORDER BY u.n, m.sequence ROWS UNBOUNDED PRECEDING) AS bytes_until
        FROM unnest($1::text[], $2::bigint[], $3::bigint[]) WITH ORDINALITY AS u (conversation_id, after, until, n)
        CROSS JOIN LATERAL (
            SELECT *
            FROM parlance_message.messages AS e
            WHERE e.conversation_id = u.conversation_id AND e.sequence > u.after AND e.sequence <= u.until
            ORDER BY e.sequence
            LIMIT $4
        ) AS m
    ) AS sized
    WHERE sized.bytes_until <= $5
    ORDER BY sized.n, sized.sequence";

impl Store {
    /// Reads the entries of gaps of at most `limit` each, for each gap in their order. A gap is empty if it has other entries
    /// than messages, or lies beyond `max_bytes` of all together. A message is as it is now, whatever changed it since.
    pub(crate) async fn read_new_messages(
        &self,
        gaps: &[Gap],
        limit: i64,
        max_bytes: i64,
    ) -> Result<Vec<Vec<Event>>, Error> {
        let query = sqlx::query_as(READ)
            .bind(gaps.iter().map(|gap| &*gap.conversation_id).collect::<Vec<_>>())
            .bind(gaps.iter().map(|gap| gap.after.get()).collect::<Vec<_>>())
            .bind(gaps.iter().map(|gap| gap.until.get()).collect::<Vec<_>>())
            .bind(limit)
            .bind(max_bytes);
        let rows: Vec<NewRow> = self.database.fetch_all(query).await?;
        let mut found: Vec<Vec<Event>> = gaps.iter().map(|_| Vec::new()).collect();
        for NewRow { n, entry } in rows {
            let index = usize::try_from(n - 1).ok().filter(|index| *index < gaps.len());
            let index = index.ok_or_else(|| Error::Corrupt(format!("there is no gap {n}")))?;
            found[index].extend(entry.into_event(&gaps[index].conversation_id)?);
        }
        for (gap, events) in gaps.iter().zip(&mut found) {
            // Sequences are unique, so as many messages as entries are all of them.
            if events.len() as i64 != gap.len() {
                events.clear();
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use sqlx::{AssertSqlSafe, Executor, PgConnection};

    use super::*;
    use crate::storage::testing::TestDatabase;

    /// Conversations `c1` to `c200` of 100 entries, all of them messages but the tenth of each.
    const MANY: &str = "
        SET session_replication_role = replica;
        INSERT INTO parlance_message.messages
            (conversation_id, sequence, ordinal, sender_id, request_id, text, created_at, change_sequence)
        SELECT 'c' || c, n, n, 'ann', 'r' || n, repeat('x', 100), now(), n
        FROM generate_series(1, 200) AS c, generate_series(1, 100) AS n
        WHERE n <> 10;
        ANALYZE parlance_message.messages";

    fn gap(conversation_id: &str, after: i64, until: i64) -> Gap {
        let [after, until] = [after, until].map(|number| Position::new(number).unwrap());
        Gap { conversation_id: conversation_id.into(), after, until }
    }

    #[tokio::test]
    async fn each_gap_is_read_whole_or_not_at_all_along_the_index() {
        let test = TestDatabase::new("gaps").await;
        let mut admin = test.settings.open().await.unwrap();
        admin.execute(sqlx::raw_sql(MANY)).await.unwrap();
        let gaps = [gap("c1", 97, 100), gap("c2", 8, 11), gap("c3", 98, 101), gap("missing", 0, 1), gap("c4", 10, 12)];
        let read = async |limit, max_bytes| {
            let found = test.store.read_new_messages(&gaps, limit, max_bytes).await.unwrap();
            found
                .iter()
                .map(|events| events.iter().map(|event| event.sequence.get()).collect())
                .collect::<Vec<Vec<_>>>()
        };
        assert_eq!(read(64, 1_000_000).await, [&[98, 99, 100][..], &[], &[], &[], &[11, 12]]);
        assert_eq!(read(2, 1_000_000).await, [&[][..], &[], &[], &[], &[11, 12]]);
        assert_eq!(read(64, 1_100).await, [&[98, 99, 100][..], &[], &[], &[], &[]]);
        let plan = explain(&mut admin).await;
        assert!(plan.contains("Index Scan using messages_pkey") && !plan.contains("Seq Scan"), "{plan}");
        test.drop().await;
    }

    /// Returns the plan for gaps in all conversations.
    async fn explain(admin: &mut PgConnection) -> String {
        let of = |column: &str| format!("ARRAY(SELECT {column} FROM generate_series(1, 200) AS c)");
        let explained = format!("EXPLAIN {READ}")
            .replace("$1", &of("'c' || c"))
            .replace("$2", &of("95::bigint"))
            .replace("$3", &of("100::bigint"))
            .replace("$4", "64")
            .replace("$5", "1000000");
        let plan: Vec<(String,)> = sqlx::query_as(AssertSqlSafe(explained)).fetch_all(admin).await.unwrap();
        plan.into_iter().map(|(line,)| line).collect::<Vec<_>>().join("\n")
    }
}
