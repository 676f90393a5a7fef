//! Conversations and their members.

use time::OffsetDateTime;

use super::{
    ids::{ConversationId, UserId},
    request::RequestHash,
    sequence::{Position, Sequence},
};

/// The kind of a conversation. The numbers are those of the wire and of storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Direct = 1,
    Group = 2,
    Channel = 3,
}

impl Kind {
    /// Returns `None` for a number that is no kind.
    pub(crate) fn from_number(number: i32) -> Option<Self> {
        match number {
            1 => Some(Self::Direct),
            2 => Some(Self::Group),
            3 => Some(Self::Channel),
            _ => None,
        }
    }
}

/// The role of a member (see `permission.rs`). The numbers are those of the wire and of storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Owner = 1,
    Admin = 2,
    Member = 3,
}

impl Role {
    /// All roles, the highest first.
    pub(crate) const ALL: [Self; 3] = [Self::Owner, Self::Admin, Self::Member];

    /// Returns `None` for a number that is no role.
    pub(crate) fn from_number(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|role| *role as i32 == number)
    }
}

/// A conversation as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_field_names, reason = "an id has one name everywhere")]
pub(crate) struct Conversation {
    pub(crate) conversation_id: ConversationId,
    pub(crate) kind: Kind,
    pub(crate) title: String,
    pub(crate) creator_id: UserId,
    /// Grows with each change of the title; the etag contains it.
    pub(crate) version: i64,
    /// The first entry that is kept.
    pub(crate) oldest_sequence: Sequence,
    pub(crate) last_sequence: Position,
    pub(crate) message_count: i64,
    pub(crate) last_message_at: Option<OffsetDateTime>,
    pub(crate) created_at: OffsetDateTime,
    pub(crate) updated_at: OffsetDateTime,
}

/// The membership of one user in one conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) conversation_id: ConversationId,
    pub(crate) user_id: UserId,
    pub(crate) role: Role,
    /// The entry by which the member last joined.
    pub(crate) join_sequence: Sequence,
    pub(crate) joined_at: OffsetDateTime,
    pub(crate) last_read_sequence: Position,
    /// Messages sent after the read mark; 0 or more.
    pub(crate) unread_count: i64,
}

/// A conversation to create. `member_ids` are the other members, each once, without the creator.
#[derive(Debug, Clone)]
pub(crate) struct NewConversation {
    pub(crate) conversation_id: ConversationId,
    pub(crate) kind: Kind,
    pub(crate) title: String,
    pub(crate) creator_id: UserId,
    pub(crate) member_ids: Vec<UserId>,
    pub(crate) request_id: String,
    pub(crate) request_hash: RequestHash,
}

/// Returns the etag of a version: opaque to callers, quoted as AIP-154 demands.
pub(crate) fn etag(version: i64) -> String {
    format!("\"{version}\"")
}

/// Returns the version that an etag names. `None` if this service never issued it: then it is not the current one.
pub(crate) fn version_of(etag: &str) -> Option<i64> {
    etag.strip_prefix('"')?.strip_suffix('"')?.parse().ok()
}
