//! The entries of a conversation's log.

use time::OffsetDateTime;

use super::{
    change::{conversation::ConversationChange, member::MemberChange},
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
            kind: EventKind::MessageSent(new.clone().into_message(stored)),
        }
    }
}

/// The kind of an entry, with its contents. Messages are shown as they are now, anything else as the change made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EventKind {
    MessageSent(Message),
    MessageEdited(Message),
    MessageDeleted(Message),
    MemberJoined(MemberChange),
    MemberLeft(MemberChange),
    MemberUpdated(MemberChange),
    ConversationUpdated(ConversationChange),
}

impl EventKind {
    /// Returns the user whose membership this entry ends; it is the last entry that the user's own streams deliver.
    pub(crate) fn ends_membership_of(&self) -> Option<&UserId> {
        match self {
            Self::MemberLeft(change) => Some(&change.user_id),
            _ => None,
        }
    }
}
