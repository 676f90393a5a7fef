//! Memberships of a user in conversations, for subscriptions to all of them at once, and for ephemerals.

use super::{Error, Store, position, sequence};
use crate::{
    actor::Actor,
    domain::{
        conversation::Kind,
        ids::{ConversationId, UserId},
        sequence::{Position, Sequence},
    },
};

/// The most ids of one listing.
pub(crate) const MAX_LISTED: usize = 10_000;

/// A conversation as one user sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MembershipView {
    pub(crate) conversation_id: ConversationId,
    pub(crate) kind: Kind,
    /// The first entry that is kept.
    pub(crate) oldest_sequence: Sequence,
    pub(crate) last_sequence: Position,
    /// `None` if the user is no member.
    pub(crate) membership: Option<Membership>,
}

/// A user's membership in a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Membership {
    /// The entry by which the member last joined.
    pub(crate) join_sequence: Sequence,
    pub(crate) last_read_sequence: Position,
}

#[derive(Debug, sqlx::FromRow)]
struct MembershipRow {
    conversation_id: String,
    kind: i16,
    oldest_sequence: i64,
    last_sequence: i64,
    join_sequence: Option<i64>,
    last_read_sequence: Option<i64>,
}

impl TryFrom<MembershipRow> for MembershipView {
    type Error = Error;

    fn try_from(row: MembershipRow) -> Result<Self, Error> {
        let kind = Kind::from_number(i32::from(row.kind))
            .ok_or_else(|| Error::Corrupt(format!("conversations.kind of {} is {}", row.conversation_id, row.kind)))?;
        let membership = row.join_sequence.zip(row.last_read_sequence).map(|(joined, read)| {
            Ok::<_, Error>(Membership {
                join_sequence: sequence(joined, "members.join_sequence")?,
                last_read_sequence: position(read, "members.last_read_sequence")?,
            })
        });
        Ok(Self {
            conversation_id: ConversationId::from_storage(row.conversation_id),
            kind,
            oldest_sequence: sequence(row.oldest_sequence, "conversations.oldest_sequence")?,
            last_sequence: position(row.last_sequence, "conversations.last_sequence")?,
            membership: membership.transpose()?,
        })
    }
}

/// The members that an ephemeral of a conversation would go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Audience {
    pub(crate) kind: Kind,
    /// The user is a member.
    pub(crate) has_user: bool,
    /// It has no more members than the limit of the query.
    pub(crate) is_small: bool,
}

// Reads along `members_pkey`, and counts no further than the limit.
const AUDIENCE: &str = "
    SELECT c.kind,
        EXISTS (
            SELECT FROM parlance_message.members AS m WHERE m.conversation_id = c.conversation_id AND m.user_id = $2
        ) AS has_user,
        (
            SELECT count(*) <= $3
            FROM (
                SELECT FROM parlance_message.members AS m WHERE m.conversation_id = c.conversation_id LIMIT $3 + 1
            ) AS few
        ) AS is_small
    FROM parlance_message.conversations AS c
    WHERE c.conversation_id = $1";

// Reads along `members_user_id_conversation_id_idx`.
const LIST: &str = "
    SELECT conversation_id
    FROM parlance_message.members
    WHERE user_id = $1 AND conversation_id > $2
    ORDER BY conversation_id
    LIMIT $3";

// Reads along `members_user_id_conversation_id_idx`.
const LIST_OF_SEVERAL: &str = "
    SELECT u.user_id,
        ARRAY(
            SELECT m.conversation_id
            FROM parlance_message.members AS m
            WHERE m.user_id = u.user_id AND m.conversation_id > u.after
            ORDER BY m.conversation_id
            LIMIT $3
        ) AS conversation_ids
    FROM unnest($1::text[], $2::text[]) AS u (user_id, after)";

// Reads along `conversations_pkey` and `members_pkey`.
const FIND: &str = "
    SELECT c.conversation_id, c.kind, c.oldest_sequence, c.last_sequence, m.join_sequence, m.last_read_sequence
    FROM unnest($2::text[]) AS u (conversation_id)
    JOIN parlance_message.conversations AS c ON c.conversation_id = u.conversation_id
    LEFT JOIN parlance_message.members AS m ON m.conversation_id = c.conversation_id AND m.user_id = $1";

impl Store {
    /// Returns the next conversations of a user after this one, at most [`MAX_LISTED`], ordered by id.
    pub(crate) async fn list_conversation_ids(
        &self,
        user_id: &UserId,
        after: Option<&ConversationId>,
    ) -> Result<Vec<ConversationId>, Error> {
        let query = sqlx::query_as(LIST)
            .bind(user_id.as_str())
            .bind(after.map_or("", |id| id.as_str()))
            .bind(MAX_LISTED as i64);
        let rows: Vec<(String,)> = self.database.fetch_all(query).await?;
        Ok(rows.into_iter().map(|(id,)| ConversationId::from_storage(id)).collect())
    }

    /// Returns the next conversations of several users, each after the given one, ordered by id: at most `limit` of each.
    pub(crate) async fn list_conversations_of(
        &self,
        users: &[(UserId, Option<ConversationId>)],
        limit: usize,
    ) -> Result<Vec<(UserId, Vec<ConversationId>)>, Error> {
        let (ids, after): (Vec<&str>, Vec<&str>) =
            users.iter().map(|(id, after)| (&**id, after.as_ref().map_or("", |id| id.as_str()))).unzip();
        let query = sqlx::query_as(LIST_OF_SEVERAL).bind(ids).bind(after).bind(limit as i64);
        let rows: Vec<(String, Vec<String>)> = self.database.fetch_all(query).await?;
        let rows = rows.into_iter().map(|(user_id, ids)| {
            (UserId::from_storage(user_id), ids.into_iter().map(ConversationId::from_storage).collect())
        });
        Ok(rows.collect())
    }

    /// Reports whether a user is a member of a conversation, and whether it has at most `members`. `None` if it does not exist.
    pub(crate) async fn find_audience(
        &self,
        actor: &Actor,
        conversation_id: &ConversationId,
        members: i64,
    ) -> Result<Option<Audience>, Error> {
        let query =
            sqlx::query_as(AUDIENCE).bind(conversation_id.as_str()).bind(actor.user_id().as_str()).bind(members);
        let row: Option<(i16, bool, bool)> = self.database.fetch_optional(query).await?;
        row.map(|(kind, has_user, is_small)| {
            let kind = Kind::from_number(i32::from(kind))
                .ok_or_else(|| Error::Corrupt(format!("conversations.kind of {conversation_id} is {kind}")))?;
            Ok(Audience { kind, has_user, is_small })
        })
        .transpose()
    }

    /// Returns those of the conversations that exist, each with the user's membership, in no order, in one snapshot.
    pub(crate) async fn find_memberships(
        &self,
        user_id: &UserId,
        conversation_ids: &[ConversationId],
    ) -> Result<Vec<MembershipView>, Error> {
        let ids: Vec<&str> = conversation_ids.iter().map(|id| &**id).collect();
        let rows: Vec<MembershipRow> =
            self.database.fetch_all(sqlx::query_as(FIND).bind(user_id.as_str()).bind(ids)).await?;
        rows.into_iter().map(MembershipView::try_from).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use sqlx::Executor;

    use super::*;
    use crate::storage::testing::TestDatabase;

    const MANY: &str = "
        SET session_replication_role = replica;
        INSERT INTO parlance_message.members
        SELECT (jsonb_populate_record(NULL::parlance_message.members, jsonb_build_object(
            'conversation_id', 'c' || lpad(n::text, 5, '0'), 'user_id', 'ann', 'role', 3, 'join_sequence', 1,
            'last_read_sequence', 0, 'last_read_ordinal', 0, 'joined_at', now(), 'join_ordinal', 0
        ))).*
        FROM generate_series(1, 25) AS n";

    #[tokio::test]
    async fn the_conversations_of_several_users_come_in_pages_of_each() {
        let test = TestDatabase::new("pages").await;
        test.settings.open().await.unwrap().execute(sqlx::raw_sql(MANY)).await.unwrap();
        let (mut listed, mut after, mut pages) = (HashSet::new(), None, 0);
        loop {
            let users = [("ann".into(), after), ("ben".into(), None)];
            let page: HashMap<_, _> = test.store.list_conversations_of(&users, 10).await.unwrap().into_iter().collect();
            assert!(page[&UserId::from("ben")].is_empty());
            let ids = &page[&UserId::from("ann")];
            pages += 1;
            listed.extend(ids.iter().cloned());
            if ids.len() < 10 {
                break;
            }
            after = ids.last().cloned();
        }
        assert_eq!((listed.len(), pages), (25, 3));
        test.drop().await;
    }
}
