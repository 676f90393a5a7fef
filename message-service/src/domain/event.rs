//! The entries of a conversation's log.

use time::OffsetDateTime;

use super::{
    conversation::{Id, Role},
    message::Message,
};

/// One entry of a conversation's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) conversation_id: Id,
    pub(crate) sequence: i64,
    pub(crate) created_at: OffsetDateTime,
    pub(crate) actor_id: Id,
    pub(crate) kind: EventKind,
}

/// What happened. Messages are shown as they are now, members and titles as the change made them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EventKind {
    MessageSent(Message),
    MessageEdited(Message),
    MessageDeleted(Message),
    MemberJoined(MemberChange),
    MemberLeft(MemberChange),
    MemberUpdated(MemberChange),
    ConversationUpdated { title: String, version: i64 },
}

/// A change of one member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MemberChange {
    pub(crate) user_id: Id,
    pub(crate) role: Role,
    pub(crate) joined_at: OffsetDateTime,
}
