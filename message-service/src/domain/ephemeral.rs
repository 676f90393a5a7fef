//! What is told live and kept nowhere: it takes no sequence, moves no cursor, and may be lost.

use super::{
    ids::{ConversationId, UserId},
    sequence::Position,
};

/// Conversations of more members tell such things to nobody but the member itself, or a busy one would flood itself.
pub(crate) const MAX_MEMBERS: i64 = 100;

/// Something about one member of one conversation, worth telling for a few seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ephemeral {
    pub(crate) conversation_id: ConversationId,
    /// The member that it is about.
    pub(crate) user_id: UserId,
    pub(crate) kind: EphemeralKind,
    /// Whether the others of the conversation are told, too.
    pub(crate) to_others: bool,
}

/// What is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum EphemeralKind {
    /// The member has read up to here. Told to the member's own streams, too.
    ReadMarker { last_read_sequence: Position },
    /// The member is typing. Not told to the member.
    Typing,
}
