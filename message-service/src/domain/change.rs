//! Changes of a conversation that take a sequence, and the outcomes of writes.

use super::{
    attributes::{Attributes, attributes_bytes},
    conversation::Role,
    ids::{ConversationId, UserId},
    message::StoredAt,
    permission::Verb,
    sequence::Sequence,
};

/// A member, its entry and its place in the outbox row, in bytes.
const ADDED_USER_BYTES: usize = 256;

/// Anything else that takes a sequence.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) conversation_id: ConversationId,
    pub(crate) actor_id: UserId,
    pub(crate) kind: ChangeKind,
}

impl Change {
    /// What it takes, in bytes; added users weigh what storing them takes.
    pub(crate) fn bytes(&self) -> usize {
        match &self.kind {
            ChangeKind::EditMessage { text, attributes, .. } => {
                text.as_ref().map_or(0, String::len) + attributes.as_ref().map_or(0, attributes_bytes)
            }
            ChangeKind::AddMembers { user_ids, .. } => user_ids.len() * ADDED_USER_BYTES,
            ChangeKind::UpdateTitle { title, .. } => title.len(),
            ChangeKind::DeleteMessage { .. } | ChangeKind::RemoveMember { .. } | ChangeKind::UpdateMember { .. } => 0,
        }
    }

    /// What a refusal means when an earlier try may have stored this change: a removal finds nobody to remove then.
    pub(crate) fn is_done_by(&self, refusal: Outcome) -> bool {
        match &self.kind {
            ChangeKind::RemoveMember { user_id } if *user_id == self.actor_id => {
                matches!(refusal, Outcome::ConversationNotFound | Outcome::NotAMember)
            }
            ChangeKind::RemoveMember { .. } => refusal == Outcome::MemberNotFound,
            ChangeKind::EditMessage { .. }
            | ChangeKind::DeleteMessage { .. }
            | ChangeKind::AddMembers { .. }
            | ChangeKind::UpdateMember { .. }
            | ChangeKind::UpdateTitle { .. } => false,
        }
    }
}

/// What is to be changed. `None` = stays as it is.
#[derive(Debug, Clone)]
pub(crate) enum ChangeKind {
    EditMessage { sequence: Sequence, text: Option<String>, attributes: Option<Attributes> },
    DeleteMessage { sequence: Sequence },
    AddMembers { user_ids: Vec<UserId>, role: Role },
    RemoveMember { user_id: UserId },
    UpdateMember { user_id: UserId, role: Role },
    UpdateTitle { title: String, expected_version: Option<i64> },
}

/// What became of one item of a batch. The numbers are those of `append_v1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Stored, or changed.
    Done = 1,
    /// Stored before, or nothing to change.
    Unchanged = 2,
    RequestIdReused = 3,
    ConversationNotFound = 4,
    NotAMember = 5,
    MessageNotFound = 6,
    /// Somebody else holds the conversation; only when told to skip what is locked.
    Locked = 7,
    ConversationIsDirect = 8,
    RoleInsufficient = 9,
    MemberNotFound = 10,
    LastOwner = 11,
    MessageDeleted = 12,
    NotTheSender = 13,
    EtagMismatch = 14,
    ConversationIdTaken = 15,
}

impl Outcome {
    pub(crate) fn from_number(number: i16) -> Option<Self> {
        Some(match number {
            1 => Self::Done,
            2 => Self::Unchanged,
            3 => Self::RequestIdReused,
            4 => Self::ConversationNotFound,
            5 => Self::NotAMember,
            6 => Self::MessageNotFound,
            7 => Self::Locked,
            8 => Self::ConversationIsDirect,
            9 => Self::RoleInsufficient,
            10 => Self::MemberNotFound,
            11 => Self::LastOwner,
            12 => Self::MessageDeleted,
            13 => Self::NotTheSender,
            14 => Self::EtagMismatch,
            15 => Self::ConversationIdTaken,
            _ => return None,
        })
    }
}

/// The outcome of one send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SendOutcome {
    pub(crate) outcome: Outcome,
    /// Present if the message was stored, now or by an earlier try. `created_at` is exact only if it was stored now.
    pub(crate) stored: Option<StoredAt>,
}

impl SendOutcome {
    /// Returns the numbers of the message if it was this send that stored it.
    pub(crate) fn stored_now(&self) -> Option<&StoredAt> {
        self.stored.as_ref().filter(|_| self.outcome == Outcome::Done)
    }
}

impl ChangeKind {
    /// Returns the verbs of which the actor's role must allow one. Leaving takes none.
    pub(crate) fn verbs(&self) -> &'static [Verb] {
        match self {
            Self::EditMessage { .. } => &[Verb::EditOwnMessage],
            Self::DeleteMessage { .. } => &[Verb::DeleteOwnMessage, Verb::DeleteMessage],
            Self::AddMembers { .. } => &[Verb::AddMember],
            Self::RemoveMember { .. } => &[Verb::RemoveMember],
            Self::UpdateMember { .. } => &[Verb::UpdateRole],
            Self::UpdateTitle { .. } => &[Verb::UpdateConversation],
        }
    }
}
