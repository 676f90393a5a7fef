//! The log itself: the dense range after a sequence, from both tables in one statement, since two statements would see two
//! snapshots and make holes.

use sqlx::types::Json;
use time::OffsetDateTime;

use super::{Error, Store, position, sequence};
use crate::domain::{
    attributes::Attributes,
    conversation::Role,
    event::{Event, EventKind, MemberChange},
    ids::{ConversationId, UserId},
    message::Message,
    sequence::{Position, Sequence},
};

/// A part of a conversation's log.
#[derive(Debug, Clone)]
pub(crate) struct LogPage {
    /// Dense and oldest first, beginning right after the sequence asked for.
    pub(crate) events: Vec<Event>,
    /// The head in the snapshot that the events were read in.
    pub(crate) last_sequence: Position,
}

#[derive(Debug, sqlx::FromRow)]
struct LogRow {
    last_sequence: i64,
    available: i64,
    sequence: Option<i64>,
    kind: Option<i16>,
    actor_id: Option<String>,
    created_at: Option<OffsetDateTime>,
    user_id: Option<String>,
    role: Option<i16>,
    joined_at: Option<OffsetDateTime>,
    title: Option<String>,
    version: Option<i64>,
    message_sequence: Option<i64>,
    ordinal: Option<i64>,
    sender_id: Option<String>,
    request_id: Option<String>,
    text: Option<String>,
    attributes: Option<Json<Attributes>>,
    reply_to_sequence: Option<i64>,
    message_created_at: Option<OffsetDateTime>,
    edited_at: Option<OffsetDateTime>,
    deleted_at: Option<OffsetDateTime>,
    change_sequence: Option<i64>,
}

const READ: &str = "
    WITH entries AS (
        SELECT m.sequence, 0::smallint AS kind, m.sender_id AS actor_id, m.created_at, NULL::text AS user_id,
            NULL::smallint AS role, NULL::timestamptz AS joined_at, NULL::text AS title, NULL::bigint AS version,
            m.sequence AS message_sequence, m.ordinal, m.sender_id, m.request_id, m.text, m.attributes, m.reply_to_sequence,
            m.created_at AS message_created_at, m.edited_at, m.deleted_at, m.change_sequence
        FROM parlance_message.messages AS m
        WHERE m.conversation_id = $1 AND m.sequence > $2 AND m.sequence <= $2 + $3
        UNION ALL
        SELECT c.sequence, c.kind, c.actor_id, c.created_at, c.user_id, c.role, c.joined_at, c.title, c.version,
            m.sequence, m.ordinal, m.sender_id, m.request_id, m.text, m.attributes, m.reply_to_sequence, m.created_at,
            m.edited_at, m.deleted_at, m.change_sequence
        FROM parlance_message.changes AS c
        LEFT JOIN parlance_message.messages AS m
            ON m.conversation_id = c.conversation_id AND m.sequence = c.target_sequence
        WHERE c.conversation_id = $1 AND c.sequence > $2 AND c.sequence <= $2 + $3
    ), sized AS (
        SELECT entries.*, count(*) OVER () AS available,
            sum(octet_length(coalesce(text, '')) + coalesce(octet_length(attributes::text), 0) + 256)
                OVER (ORDER BY sequence ROWS UNBOUNDED PRECEDING)
                - octet_length(coalesce(text, '')) - coalesce(octet_length(attributes::text), 0) - 256 AS bytes_before
        FROM entries
    )
    SELECT head.last_sequence, coalesce(s.available, 0) AS available, s.sequence, s.kind, s.actor_id, s.created_at, s.user_id,
        s.role, s.joined_at, s.title, s.version, s.message_sequence, s.ordinal, s.sender_id, s.request_id, s.text,
        s.attributes, s.reply_to_sequence, s.message_created_at, s.edited_at, s.deleted_at, s.change_sequence
    FROM parlance_message.conversations AS head
    LEFT JOIN sized AS s ON s.bytes_before < $4
    WHERE head.conversation_id = $1
    ORDER BY s.sequence";

impl Store {
    /// Reads at most `limit` entries after a sequence, and at most about `max_bytes` of them but always one if there is one.
    /// `None` if there is no such conversation. The sequence must not lie before the entries that are kept.
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
            .filter(|row| row.sequence.is_some())
            .map(|row| row.into_event(conversation_id))
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

impl LogRow {
    fn into_event(mut self, conversation_id: &ConversationId) -> Result<Event, Error> {
        let number = self.sequence.unwrap_or_default();
        let missing = || Error::Corrupt(format!("entry {number} of conversation {conversation_id} is incomplete"));
        let sequence = sequence(number, "the sequence of an entry")?;
        let actor_id = UserId::from_storage(self.actor_id.take().ok_or_else(missing)?);
        let created_at = self.created_at.ok_or_else(missing)?;
        let kind = match self.kind {
            Some(0) => EventKind::MessageSent(self.message(conversation_id).ok_or_else(missing)?),
            Some(1) => EventKind::MessageEdited(self.message(conversation_id).ok_or_else(missing)?),
            Some(2) => EventKind::MessageDeleted(self.message(conversation_id).ok_or_else(missing)?),
            Some(3) => EventKind::MemberJoined(self.member().ok_or_else(missing)?),
            Some(4) => EventKind::MemberLeft(self.member().ok_or_else(missing)?),
            Some(5) => EventKind::MemberUpdated(self.member().ok_or_else(missing)?),
            Some(6) => EventKind::ConversationUpdated {
                title: self.title.take().ok_or_else(missing)?,
                version: self.version.ok_or_else(missing)?,
            },
            _ => return Err(missing()),
        };
        Ok(Event { conversation_id: conversation_id.clone(), sequence, created_at, actor_id, kind })
    }

    fn member(&mut self) -> Option<MemberChange> {
        Some(MemberChange {
            user_id: UserId::from_storage(self.user_id.take()?),
            role: Role::from_number(i32::from(self.role?))?,
            joined_at: self.joined_at?,
        })
    }

    fn message(&mut self, conversation_id: &ConversationId) -> Option<Message> {
        Some(Message {
            conversation_id: conversation_id.clone(),
            sequence: Sequence::new(self.message_sequence?)?,
            ordinal: self.ordinal?,
            sender_id: UserId::from_storage(self.sender_id.take()?),
            request_id: self.request_id.take()?,
            text: self.text.take()?,
            attributes: self.attributes.take().map(|Json(attributes)| attributes).unwrap_or_default(),
            reply_to_sequence: self.reply_to_sequence.and_then(Sequence::new),
            created_at: self.message_created_at?,
            edited_at: self.edited_at,
            deleted_at: self.deleted_at,
            change_sequence: Sequence::new(self.change_sequence?)?,
        })
    }
}
