//! Members, and lists of them.

use time::OffsetDateTime;

use super::{Error, Page, Store, position, sequence};
use crate::{
    actor::Actor,
    domain::{
        conversation::{Member, Role},
        ids::{ConversationId, UserId},
    },
};

/// A row of `members` with the conversation's count of messages.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct MemberRow {
    pub(super) conversation_id: String,
    pub(super) user_id: String,
    pub(super) role: i16,
    pub(super) join_sequence: i64,
    pub(super) joined_at: OffsetDateTime,
    pub(super) last_read_sequence: i64,
    pub(super) last_read_ordinal: i64,
    pub(super) message_count: i64,
}

impl TryFrom<MemberRow> for Member {
    type Error = Error;

    fn try_from(row: MemberRow) -> Result<Self, Error> {
        let role = Role::from_number(i32::from(row.role))
            .ok_or_else(|| Error::Corrupt(format!("members.role of {} is {}", row.user_id, row.role)))?;
        Ok(Self {
            conversation_id: ConversationId::from_storage(row.conversation_id),
            user_id: UserId::from_storage(row.user_id),
            role,
            join_sequence: sequence(row.join_sequence, "members.join_sequence")?,
            joined_at: row.joined_at,
            last_read_sequence: position(row.last_read_sequence, "members.last_read_sequence")?,
            unread_count: (row.message_count - row.last_read_ordinal).max(0),
        })
    }
}

// Reads along `members_pkey`.
const LIST: &str = "
    SELECT m.conversation_id, m.user_id, m.role, m.join_sequence, m.joined_at, m.last_read_sequence, m.last_read_ordinal,
        c.message_count
    FROM parlance_message.conversations AS c
    JOIN parlance_message.members AS m ON m.conversation_id = c.conversation_id
    WHERE c.conversation_id = $1 AND m.user_id > $2
    ORDER BY m.user_id
    LIMIT $3 + 1";

// Reads along `members_pkey`.
const FIND_SOME: &str = "
    SELECT m.conversation_id, m.user_id, m.role, m.join_sequence, m.joined_at, m.last_read_sequence, m.last_read_ordinal,
        c.message_count
    FROM unnest($2::text[]) WITH ORDINALITY AS u (user_id, n)
    JOIN parlance_message.conversations AS c ON c.conversation_id = $1
    JOIN parlance_message.members AS m ON m.conversation_id = c.conversation_id AND m.user_id = u.user_id
    ORDER BY u.n";

// Reads along `members_owners_idx`.
const OWNERS: &str = "
    SELECT m.user_id
    FROM parlance_message.members AS m
    WHERE m.conversation_id = $1 AND m.role = 1
    ORDER BY m.user_id
    LIMIT $2";

// Reads all members of the conversation along `members_pkey`.
const SUCCESSORS: &str = "
    SELECT m.user_id
    FROM parlance_message.members AS m
    WHERE m.conversation_id = $1 AND m.role <> 1
    ORDER BY m.role, m.join_sequence
    LIMIT $2";

impl Store {
    /// Returns at most `limit` members after this user id, ordered by user id.
    pub(crate) async fn list_members(
        &self,
        _: &Actor,
        conversation_id: &ConversationId,
        after_user_id: &str,
        limit: i64,
    ) -> Result<Page<Member>, Error> {
        let query = sqlx::query_as(LIST).bind(conversation_id.as_str()).bind(after_user_id).bind(limit);
        let rows: Vec<MemberRow> = self.database.fetch_all(query).await?;
        let available = rows.len() as i64;
        Page::cut(rows.into_iter().map(|row| (row, available)).collect(), limit, Member::try_from)
    }

    /// Returns those of the users that are members, in the order of `user_ids`.
    pub(crate) async fn find_members(
        &self,
        _: &Actor,
        conversation_id: &ConversationId,
        user_ids: &[UserId],
    ) -> Result<Vec<Member>, Error> {
        let ids: Vec<&str> = user_ids.iter().map(|id| &**id).collect();
        let query = sqlx::query_as(FIND_SOME).bind(conversation_id.as_str()).bind(ids);
        self.database.fetch_all::<MemberRow>(query).await?.into_iter().map(Member::try_from).collect()
    }

    /// Returns at most `limit` owners.
    pub(crate) async fn list_owners(
        &self,
        _: &Actor,
        conversation_id: &ConversationId,
        limit: i64,
    ) -> Result<Vec<UserId>, Error> {
        self.list_user_ids(OWNERS, conversation_id, limit).await
    }

    /// Returns at most `limit` members who may succeed the owners: admins, then plain members, those who joined first first.
    pub(crate) async fn list_successors(
        &self,
        _: &Actor,
        conversation_id: &ConversationId,
        limit: i64,
    ) -> Result<Vec<UserId>, Error> {
        self.list_user_ids(SUCCESSORS, conversation_id, limit).await
    }

    async fn list_user_ids(
        &self,
        statement: &'static str,
        conversation_id: &ConversationId,
        limit: i64,
    ) -> Result<Vec<UserId>, Error> {
        let query = sqlx::query_as(statement).bind(conversation_id.as_str()).bind(limit);
        let rows: Vec<(String,)> = self.database.fetch_all(query).await?;
        Ok(rows.into_iter().map(|(user_id,)| UserId::from_storage(user_id)).collect())
    }
}
