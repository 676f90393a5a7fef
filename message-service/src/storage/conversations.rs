//! Conversations: creating one, one with the actor's membership, and a user's inbox.

use std::collections::HashMap;

use sqlx::types::Json;
use time::OffsetDateTime;

use super::{Error, MAX_PAGE_BYTES, Page, Store, append::read_outcome, members::MemberRow, position, sequence};
use crate::{
    actor::Actor,
    domain::{
        attributes::Attributes,
        change::Outcome,
        conversation::{Conversation, Kind, Member, NewConversation},
        ids::{ConversationId, UserId},
        message::Message,
        request::RequestHash,
        sequence::Position,
    },
};

/// One conversation of a user's inbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InboxItem {
    pub(crate) conversation: Conversation,
    pub(crate) membership: Member,
    pub(crate) last_message: Option<Message>,
    /// The time of the last message, else of the creation; the inbox is ordered by it.
    pub(crate) active_at: OffsetDateTime,
}

#[derive(Debug, sqlx::FromRow)]
struct ConversationRow {
    conversation_id: String,
    kind: i16,
    title: String,
    description: String,
    avatar_url: String,
    attributes: Option<Json<Attributes>>,
    creator_id: String,
    version: i64,
    oldest_sequence: i64,
    last_sequence: i64,
    message_count: i64,
    last_message_at: Option<OffsetDateTime>,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
}

impl TryFrom<ConversationRow> for Conversation {
    type Error = Error;

    fn try_from(row: ConversationRow) -> Result<Self, Error> {
        let kind = Kind::from_number(i32::from(row.kind))
            .ok_or_else(|| Error::Corrupt(format!("conversations.kind of {} is {}", row.conversation_id, row.kind)))?;
        Ok(Self {
            conversation_id: ConversationId::from_storage(row.conversation_id),
            kind,
            title: row.title,
            description: row.description,
            avatar_url: row.avatar_url,
            attributes: row.attributes.map(|Json(attributes)| attributes).unwrap_or_default(),
            creator_id: UserId::from_storage(row.creator_id),
            version: row.version,
            oldest_sequence: sequence(row.oldest_sequence, "conversations.oldest_sequence")?,
            last_sequence: position(row.last_sequence, "conversations.last_sequence")?,
            message_count: row.message_count,
            last_message_at: row.last_message_at,
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

#[derive(Debug, sqlx::FromRow)]
struct ViewRow {
    #[sqlx(flatten)]
    conversation: ConversationRow,
    role: Option<i16>,
    join_sequence: Option<i64>,
    joined_at: Option<OffsetDateTime>,
    last_read_sequence: Option<i64>,
    last_read_ordinal: Option<i64>,
}

impl ViewRow {
    fn into_view(self, user_id: &UserId) -> Result<(Conversation, Option<Member>), Error> {
        let member =
            match (self.role, self.join_sequence, self.joined_at, self.last_read_sequence, self.last_read_ordinal) {
                (
                    Some(role),
                    Some(join_sequence),
                    Some(joined_at),
                    Some(last_read_sequence),
                    Some(last_read_ordinal),
                ) => {
                    let row = MemberRow {
                        conversation_id: self.conversation.conversation_id.clone(),
                        user_id: user_id.to_string(),
                        role,
                        join_sequence,
                        joined_at,
                        last_read_sequence,
                        last_read_ordinal,
                        message_count: self.conversation.message_count,
                    };
                    Some(Member::try_from(row)?)
                }
                _ => None,
            };
        Ok((self.conversation.try_into()?, member))
    }
}

#[derive(Debug, sqlx::FromRow)]
struct InboxRow {
    #[sqlx(flatten)]
    view: ViewRow,
    last_message_sequence: i64,
    active_at: OffsetDateTime,
    available: i64,
}

#[derive(Debug, sqlx::FromRow)]
struct CreatedRow {
    outcome: i16,
    conversation_id: String,
}

const CREATE: &str = "
    SELECT outcome, conversation_id
    FROM parlance_message.create_conversation_v1($1, $2, $3, $4, $5, $6, $7)";

// Reads along `conversation_requests_pkey`.
const FIND_CREATION: &str = "
    SELECT conversation_id, request_hash
    FROM parlance_message.conversation_requests
    WHERE creator_id = $1 AND request_id = $2";

// Reads along `conversations_pkey`.
const FIND_HEADS: &str = "
    SELECT conversation_id, last_sequence
    FROM parlance_message.conversations
    WHERE conversation_id = ANY($1)";

// Reads along `conversations_pkey` and `members_pkey`.
const VIEW: &str = "
    SELECT c.conversation_id, c.kind, c.title, c.description, c.avatar_url, c.attributes, c.creator_id, c.version,
        c.oldest_sequence, c.last_sequence, c.message_count, c.last_message_at, c.created_at, c.updated_at, m.role,
        m.join_sequence, m.joined_at, m.last_read_sequence, m.last_read_ordinal
    FROM parlance_message.conversations AS c
    LEFT JOIN parlance_message.members AS m ON m.conversation_id = c.conversation_id AND m.user_id = $2
    WHERE c.conversation_id = $1";

// Reads along `members_user_id_conversation_id_idx`, and all of the user's conversations: every send would have to change an
// index on activity.
const INBOX: &str = "
    SELECT conversation_id, kind, title, description, avatar_url, attributes, creator_id, version, oldest_sequence,
        last_sequence, message_count, last_message_at, created_at, updated_at, role, join_sequence, joined_at,
        last_read_sequence, last_read_ordinal, last_message_sequence, active_at, available
    FROM (
        SELECT page.*, count(*) OVER () AS available,
            sum(bytes) OVER (ORDER BY active_at DESC, conversation_id DESC ROWS UNBOUNDED PRECEDING) - bytes AS bytes_before
        FROM (
            SELECT inbox.*, octet_length(inbox.description) + octet_length(inbox.avatar_url)
                    + coalesce(octet_length(inbox.attributes::text), 0) + coalesce(octet_length(e.text), 0)
                    + coalesce(octet_length(e.attributes::text), 0) AS bytes
            FROM (
                SELECT c.conversation_id, c.kind, c.title, c.description, c.avatar_url, c.attributes, c.creator_id, c.version,
                    c.oldest_sequence, c.last_sequence, c.message_count, c.last_message_at, c.created_at, c.updated_at,
                    m.role, m.join_sequence, m.joined_at, m.last_read_sequence, m.last_read_ordinal, c.last_message_sequence,
                    newest.active_at
                FROM (
                    SELECT c.conversation_id, coalesce(c.last_message_at, c.created_at) AS active_at
                    FROM parlance_message.members AS m
                    JOIN parlance_message.conversations AS c ON c.conversation_id = m.conversation_id
                    WHERE m.user_id = $1
                        AND ($2::timestamptz IS NULL
                            OR (coalesce(c.last_message_at, c.created_at), c.conversation_id) < ($2, $3))
                    ORDER BY active_at DESC, c.conversation_id DESC
                    LIMIT $4 + 1
                ) AS newest
                JOIN parlance_message.conversations AS c ON c.conversation_id = newest.conversation_id
                JOIN parlance_message.members AS m ON m.conversation_id = newest.conversation_id AND m.user_id = $1
            ) AS inbox
            LEFT JOIN parlance_message.messages AS e
                ON e.conversation_id = inbox.conversation_id AND e.sequence = inbox.last_message_sequence
        ) AS page
    ) AS sized
    WHERE bytes_before < $5
    ORDER BY active_at DESC, conversation_id DESC";

// Reads along `messages_pkey`.
const LAST_MESSAGES: &str = "
    SELECT e.conversation_id, e.sequence, e.ordinal, e.sender_id, e.request_id, e.text, e.attributes, e.reply_to_sequence,
        e.created_at AS message_created_at, e.edited_at, e.deleted_at, e.change_sequence
    FROM unnest($1::text[], $2::bigint[]) AS u (conversation_id, sequence)
    JOIN parlance_message.messages AS e ON e.conversation_id = u.conversation_id AND e.sequence = u.sequence";

impl Store {
    /// Creates a conversation with its first members and their entries. Harmless to repeat. Returns the id of the
    /// conversation, which the same request, or one for the same DIRECT pair, may have created before.
    pub(crate) async fn create_conversation(&self, new: &NewConversation) -> Result<(Outcome, ConversationId), Error> {
        let members: Vec<&str> = new.member_ids.iter().map(|id| &**id).collect();
        let query = sqlx::query_as(CREATE)
            .bind(&*new.conversation_id)
            .bind(new.kind as i16)
            .bind(&new.title)
            .bind(&*new.creator_id)
            .bind(members)
            .bind(&new.request_id)
            .bind(&new.request_hash[..]);
        let row: CreatedRow = self.database.fetch_one(query).await?;
        Ok((read_outcome(row.outcome)?, ConversationId::from_storage(row.conversation_id)))
    }

    /// Returns the conversation that a creator's request created, and the hash of its content.
    pub(crate) async fn find_creation(
        &self,
        actor: &Actor,
        request_id: &str,
    ) -> Result<Option<(ConversationId, RequestHash)>, Error> {
        let query = sqlx::query_as(FIND_CREATION).bind(actor.user_id().as_str()).bind(request_id);
        let row: Option<(String, Vec<u8>)> = self.database.fetch_optional(query).await?;
        row.map(|(conversation_id, hash)| {
            let hash = hash.try_into();
            let hash =
                hash.map_err(|_| Error::Corrupt("conversation_requests.request_hash is not 16 bytes".to_owned()))?;
            Ok((ConversationId::from_storage(conversation_id), hash))
        })
        .transpose()
    }

    /// Returns the heads of those of the conversations that exist.
    pub(crate) async fn find_heads(
        &self,
        conversation_ids: &[ConversationId],
    ) -> Result<Vec<(ConversationId, Position)>, Error> {
        let ids: Vec<&str> = conversation_ids.iter().map(|id| &**id).collect();
        let rows: Vec<(String, i64)> = self.database.fetch_all(sqlx::query_as(FIND_HEADS).bind(ids)).await?;
        let rows = rows
            .into_iter()
            .map(|(id, head)| Ok((ConversationId::from_storage(id), position(head, "conversations.last_sequence")?)));
        rows.collect()
    }

    /// Returns a conversation, and the actor's membership if it is a member. The caller decides whether the actor may see
    /// it.
    pub(crate) async fn view_conversation(
        &self,
        actor: &Actor,
        conversation_id: &ConversationId,
    ) -> Result<Option<(Conversation, Option<Member>)>, Error> {
        let query = sqlx::query_as(VIEW).bind(conversation_id.as_str()).bind(actor.user_id().as_str());
        self.database.fetch_optional::<ViewRow>(query).await?.map(|row| row.into_view(actor.user_id())).transpose()
    }

    /// Returns at most `limit` of the user's conversations, and at most about 1 MiB of them, newest activity first, after the
    /// key (activity, conversation id) of the page before.
    pub(crate) async fn list_inbox(
        &self,
        actor: &Actor,
        after: Option<(OffsetDateTime, ConversationId)>,
        limit: i64,
    ) -> Result<Page<InboxItem>, Error> {
        let query = sqlx::query_as(INBOX)
            .bind(actor.user_id().as_str())
            .bind(after.as_ref().map(|(active_at, _)| *active_at))
            .bind(after.as_ref().map(|(_, conversation_id)| conversation_id.as_str()))
            .bind(limit)
            .bind(MAX_PAGE_BYTES);
        let rows: Vec<InboxRow> = self.database.fetch_all(query).await?;
        let last_messages = self.last_messages(&rows).await?;
        let rows = rows.into_iter().map(|row| {
            let available = row.available;
            (row, available)
        });
        Page::cut(rows.collect(), limit, |row: InboxRow| {
            let active_at = row.active_at;
            let (conversation, membership) = row.view.into_view(actor.user_id())?;
            let membership = membership.ok_or_else(|| Error::Corrupt("an inbox row without a member".to_owned()))?;
            let last_message = last_messages.get(&conversation.conversation_id).cloned();
            Ok(InboxItem { conversation, membership, last_message, active_at })
        })
    }

    async fn last_messages(&self, rows: &[InboxRow]) -> Result<HashMap<ConversationId, Message>, Error> {
        let ids: Vec<&str> = rows.iter().map(|row| &*row.view.conversation.conversation_id).collect();
        let sequences: Vec<i64> = rows.iter().map(|row| row.last_message_sequence).collect();
        let query = sqlx::query_as(LAST_MESSAGES).bind(ids).bind(sequences);
        let messages = self.database.fetch_all::<super::messages::MessageRow>(query).await?;
        let messages = messages.into_iter().map(Message::try_from);
        messages.map(|message| message.map(|message| (message.conversation_id.clone(), message))).collect()
    }
}
