//! The entries of a conversation's log.

use time::OffsetDateTime;

use super::{
    conversation::Role,
    ids::{ConversationId, UserId},
    message::{Message, NewMessage, StoredAt},
    sequence::Sequence,
};

/// One entry of a conversation's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) conversation_id: ConversationId,
    pub(crate) sequence: Sequence,
    pub(crate) created_at: OffsetDateTime,
    pub(crate) actor_id: UserId,
    pub(crate) kind: EventKind,
}

impl Event {
    /// Returns the entry that a message is once it is stored.
    pub(crate) fn message_sent(new: &NewMessage, stored: &StoredAt) -> Self {
        Self {
            conversation_id: new.conversation_id.clone(),
            sequence: stored.sequence,
            created_at: stored.created_at,
            actor_id: new.sender_id.clone(),
            kind: EventKind::MessageSent(new.to_message(stored)),
        }
    }
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
    pub(crate) user_id: UserId,
    pub(crate) role: Role,
    pub(crate) joined_at: OffsetDateTime,
}
