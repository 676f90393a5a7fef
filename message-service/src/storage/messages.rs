//! Messages: one, and pages of them.

use sqlx::types::Json;
use time::OffsetDateTime;

use super::{Error, MAX_PAGE_BYTES, Page, Store, sequence};
use crate::{
    actor::Actor,
    domain::{
        attributes::Attributes,
        ids::{ConversationId, UserId},
        message::Message,
        sequence::Sequence,
    },
};

/// A row of `messages`, or its part of a joined row.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct MessageRow {
    conversation_id: String,
    sequence: i64,
    ordinal: i64,
    sender_id: String,
    request_id: String,
    text: String,
    attributes: Option<Json<Attributes>>,
    reply_to_sequence: Option<i64>,
    message_created_at: OffsetDateTime,
    edited_at: Option<OffsetDateTime>,
    deleted_at: Option<OffsetDateTime>,
    change_sequence: i64,
}

impl TryFrom<MessageRow> for Message {
    type Error = Error;

    fn try_from(row: MessageRow) -> Result<Self, Error> {
        Ok(Self {
            conversation_id: ConversationId::from_storage(row.conversation_id),
            sequence: sequence(row.sequence, "messages.sequence")?,
            ordinal: row.ordinal,
            sender_id: UserId::from_storage(row.sender_id),
            request_id: row.request_id,
            text: row.text,
            attributes: row.attributes.map(|Json(attributes)| attributes).unwrap_or_default(),
            reply_to_sequence: row.reply_to_sequence.and_then(Sequence::new),
            created_at: row.message_created_at,
            edited_at: row.edited_at,
            deleted_at: row.deleted_at,
            change_sequence: sequence(row.change_sequence, "messages.change_sequence")?,
        })
    }
}

#[derive(Debug, sqlx::FromRow)]
struct PageRow {
    #[sqlx(flatten)]
    message: MessageRow,
    available: i64,
}

/// The range of a page of messages, both bounds exclusive.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MessageRange {
    pub(crate) after_sequence: i64,
    pub(crate) before_sequence: i64,
    pub(crate) newest_first: bool,
}

// Reads along `messages_pkey`: the only index with this order, whatever the statistics say.
const FIND: &str = "
    SELECT conversation_id, sequence, ordinal, sender_id, request_id, text, attributes, reply_to_sequence,
        created_at AS message_created_at, edited_at, deleted_at, change_sequence
    FROM parlance_message.messages
    WHERE conversation_id = $1 AND sequence BETWEEN $2 AND $2
    ORDER BY sequence
    LIMIT 1";

// Reads along `messages_pkey`.
const LIST_OLDEST_FIRST: &str = "
    SELECT conversation_id, sequence, ordinal, sender_id, request_id, text, attributes, reply_to_sequence,
        message_created_at, edited_at, deleted_at, change_sequence, available
    FROM (
        SELECT page.*, count(*) OVER () AS available,
            sum(octet_length(text) + coalesce(octet_length(attributes::text), 0)) OVER (ORDER BY sequence ROWS UNBOUNDED PRECEDING)
                - octet_length(text) - coalesce(octet_length(attributes::text), 0) AS bytes_before
        FROM (
            SELECT conversation_id, sequence, ordinal, sender_id, request_id, text, attributes, reply_to_sequence,
                created_at AS message_created_at, edited_at, deleted_at, change_sequence
            FROM parlance_message.messages
            WHERE conversation_id = $1 AND sequence > $2 AND sequence < $3
            ORDER BY sequence
            LIMIT $4 + 1
        ) AS page
    ) AS sized
    WHERE bytes_before < $5
    ORDER BY sequence";

// Reads along `messages_pkey`.
const LIST_NEWEST_FIRST: &str = "
    SELECT conversation_id, sequence, ordinal, sender_id, request_id, text, attributes, reply_to_sequence,
        message_created_at, edited_at, deleted_at, change_sequence, available
    FROM (
        SELECT page.*, count(*) OVER () AS available,
            sum(octet_length(text) + coalesce(octet_length(attributes::text), 0))
                OVER (ORDER BY sequence DESC ROWS UNBOUNDED PRECEDING)
                - octet_length(text) - coalesce(octet_length(attributes::text), 0) AS bytes_before
        FROM (
            SELECT conversation_id, sequence, ordinal, sender_id, request_id, text, attributes, reply_to_sequence,
                created_at AS message_created_at, edited_at, deleted_at, change_sequence
            FROM parlance_message.messages
            WHERE conversation_id = $1 AND sequence > $2 AND sequence < $3
            ORDER BY sequence DESC
            LIMIT $4 + 1
        ) AS page
    ) AS sized
    WHERE bytes_before < $5
    ORDER BY sequence DESC";

impl Store {
    /// Returns the message of this sequence. `None` if the entry is of another kind or does not exist.
    pub(crate) async fn find_message(
        &self,
        _: &Actor,
        conversation_id: &ConversationId,
        sequence: Sequence,
    ) -> Result<Option<Message>, Error> {
        let query = sqlx::query_as(FIND).bind(conversation_id.as_str()).bind(sequence.get());
        self.database.fetch_optional::<MessageRow>(query).await?.map(Message::try_from).transpose()
    }

    /// Returns at most `limit` messages of the range, and at most about 1 MiB of them but always one if there is one.
    pub(crate) async fn list_messages(
        &self,
        _: &Actor,
        conversation_id: &ConversationId,
        range: MessageRange,
        limit: i64,
    ) -> Result<Page<Message>, Error> {
        let query = sqlx::query_as(if range.newest_first { LIST_NEWEST_FIRST } else { LIST_OLDEST_FIRST })
            .bind(conversation_id.as_str())
            .bind(range.after_sequence)
            .bind(range.before_sequence)
            .bind(limit)
            .bind(MAX_PAGE_BYTES);
        let rows: Vec<PageRow> = self.database.fetch_all(query).await?;
        Page::cut(rows.into_iter().map(|row| (row.message, row.available)).collect(), limit, Message::try_from)
    }
}
