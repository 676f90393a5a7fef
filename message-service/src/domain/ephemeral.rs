//! Ephemerals, which are delivered live and stored nowhere: they take no sequence, move no cursor, and may be lost.

use super::{
    ids::{ConversationId, UserId},
    sequence::Position,
};

/// The most members of a conversation whose ephemerals go to all of them. In larger ones they go to the member's own streams
/// only: a busy conversation would flood itself.
pub(crate) const MAX_MEMBERS: i64 = 100;

/// News of one member of one conversation that matter for a few seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ephemeral {
    pub(crate) conversation_id: ConversationId,
    /// The member concerned.
    pub(crate) user_id: UserId,
    pub(crate) kind: EphemeralKind,
    /// Set if it goes to the other members, too.
    pub(crate) to_others: bool,
}

impl Ephemeral {
    /// Returns true if it goes to the streams of this user.
    pub(crate) fn is_for(&self, user_id: &UserId) -> bool {
        let is_own = self.user_id == *user_id;
        match self.kind {
            EphemeralKind::ReadMarker { .. } => is_own || self.to_others,
            EphemeralKind::Typing => !is_own && self.to_others,
        }
    }
}

/// The kind of an ephemeral.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum EphemeralKind {
    /// The member has read up to here. Goes to the member's own streams, too.
    ReadMarker { last_read_sequence: Position },
    /// The member is typing. Does not go to the member's own streams.
    Typing,
}
