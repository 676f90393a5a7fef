//! Ranges of a log, read from both tables in one statement: two statements would see two snapshots, and so holes.

use super::{Error, Store, entry::EntryRow, position};
use crate::domain::{event::Event, ids::ConversationId, sequence::Position};

/// A part of a conversation's log.
#[derive(Debug, Clone)]
pub(crate) struct LogPage {
    /// Dense and oldest first, beginning right after the position asked for.
    pub(crate) events: Vec<Event>,
    /// The head in the snapshot that the events were read in.
    pub(crate) last_sequence: Position,
}

#[derive(Debug, sqlx::FromRow)]
struct LogRow {
    last_sequence: i64,
    available: i64,
    #[sqlx(flatten)]
    entry: EntryRow,
}

// Reads along `messages_pkey` and `changes_pkey`.
const READ: &str = "
    WITH entries AS (
        SELECT m.sequence, 0::smallint AS kind, m.sender_id AS actor_id, m.created_at, NULL::text AS user_id,
            NULL::smallint AS role, NULL::timestamptz AS joined_at, NULL::text AS title, NULL::bigint AS version,
            NULL::jsonb AS detail, m.sequence AS message_sequence, m.ordinal, m.sender_id, m.request_id, m.text, m.attributes, m.reply_to_sequence,
            m.created_at AS message_created_at, m.edited_at, m.deleted_at, m.change_sequence
        FROM parlance_message.messages AS m
        WHERE m.conversation_id = $1 AND m.sequence > $2 AND m.sequence <= $2 + $3
        UNION ALL
        SELECT c.sequence, c.kind, c.actor_id, c.created_at, c.user_id, c.role, c.joined_at, c.title, c.version,
            c.detail, m.sequence, m.ordinal, m.sender_id, m.request_id, m.text, m.attributes, m.reply_to_sequence, m.created_at,
            m.edited_at, m.deleted_at, m.change_sequence
        FROM parlance_message.changes AS c
        LEFT JOIN parlance_message.messages AS m
            ON m.conversation_id = c.conversation_id AND m.sequence = c.target_sequence
        WHERE c.conversation_id = $1 AND c.sequence > $2 AND c.sequence <= $2 + $3
    ), sized AS (
        SELECT weighed.*, count(*) OVER () AS available,
            sum(bytes) OVER (ORDER BY sequence ROWS UNBOUNDED PRECEDING) - bytes AS bytes_before
        FROM (
            SELECT entries.*, octet_length(coalesce(text, '')) + coalesce(octet_length(attributes::text), 0)
                + coalesce(octet_length(detail::text), 0) + 256 AS bytes
            FROM entries
        ) AS weighed
    )
    SELECT head.last_sequence, coalesce(s.available, 0) AS available, s.sequence, s.kind, s.actor_id, s.created_at, s.user_id,
        s.role, s.joined_at, s.title, s.version, s.detail, s.message_sequence, s.ordinal, s.sender_id, s.request_id, s.text,
        s.attributes, s.reply_to_sequence, s.message_created_at, s.edited_at, s.deleted_at, s.change_sequence
    FROM parlance_message.conversations AS head
    LEFT JOIN sized AS s ON s.bytes_before < $4
    WHERE head.conversation_id = $1
    ORDER BY s.sequence";

impl Store {
    /// Reads at most `limit` entries after a position, and at most about `max_bytes` of them but always one if there is one.
    /// `None` if there is no such conversation. The position must not be before the entries that are kept.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when an entry is missing that must be there.
    pub(crate) async fn read_log(
        &self,
        conversation_id: &ConversationId,
        after: Position,
        limit: i64,
        max_bytes: i64,
    ) -> Result<Option<LogPage>, Error> {
        let query = sqlx::query_as(READ).bind(conversation_id.as_str()).bind(after.get()).bind(limit).bind(max_bytes);
        let rows: Vec<LogRow> = self.database.fetch_all(query).await?;
        let Some((last_sequence, available)) = rows.first().map(|row| (row.last_sequence, row.available)) else {
            return Ok(None);
        };
        let events = rows
            .into_iter()
            .filter_map(|row| row.entry.into_event(conversation_id).transpose())
            .collect::<Result<Vec<_>, _>>()?;

        let last_sequence = position(last_sequence, "conversations.last_sequence")?;
        let expected = after.entries_until(last_sequence).min(limit);
        let dense = events.iter().zip(after.get() + 1..).all(|(event, number)| event.sequence.get() == number);
        if available != expected || !dense {
            return Err(Error::Corrupt(format!(
                "the log of conversation {conversation_id} has {available} of {expected} entries after {after}"
            )));
        }
        Ok(Some(LogPage { events, last_sequence }))
    }
}
