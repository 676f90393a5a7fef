//! Conversations and their members.

use time::OffsetDateTime;

use super::{
    ids::{ConversationId, UserId},
    request::RequestHash,
    sequence::{Position, Sequence},
};

/// What a conversation is. The numbers are those of the wire and of storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Direct = 1,
    Group = 2,
    Channel = 3,
}

impl Kind {
    /// `None` for a number that is no kind.
    pub(crate) fn from_number(number: i32) -> Option<Self> {
        match number {
            1 => Some(Self::Direct),
            2 => Some(Self::Group),
            3 => Some(Self::Channel),
            _ => None,
        }
    }
}

/// What a member may do. The numbers are those of the wire and of storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Owner = 1,
    Admin = 2,
    Member = 3,
}

impl Role {
    /// `None` for a number that is no role.
    pub(crate) fn from_number(number: i32) -> Option<Self> {
        match number {
            1 => Some(Self::Owner),
            2 => Some(Self::Admin),
            3 => Some(Self::Member),
            _ => None,
        }
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
    /// Moves with the title; the etag is made of it.
    pub(crate) version: i64,
    /// First entry that is kept.
    pub(crate) oldest_sequence: Sequence,
    pub(crate) last_sequence: Position,
    pub(crate) message_count: i64,
    pub(crate) last_message_at: Option<OffsetDateTime>,
    pub(crate) created_at: OffsetDateTime,
    pub(crate) updated_at: OffsetDateTime,
}

/// One user's part in one conversation.
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

/// The etag of a version: opaque to callers, quoted as AIP-154 wants it.
pub(crate) fn etag(version: i64) -> String {
    format!("\"{version}\"")
}

/// The version an etag names; `None` if it never was an etag of ours, and so cannot be the current one.
pub(crate) fn version_of(etag: &str) -> Option<i64> {
    etag.strip_prefix('"')?.strip_suffix('"')?.parse().ok()
}
