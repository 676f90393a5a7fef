//! The outcomes of writes.

use crate::domain::message::StoredAt;

/// The outcome of one item of a batch, by the numbers that the SQL functions of the write path return.
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
    /// Another transaction holds the conversation; only where locked conversations are skipped.
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
    const ALL: [Self; 15] = [
        Self::Done,
        Self::Unchanged,
        Self::RequestIdReused,
        Self::ConversationNotFound,
        Self::NotAMember,
        Self::MessageNotFound,
        Self::Locked,
        Self::ConversationIsDirect,
        Self::RoleInsufficient,
        Self::MemberNotFound,
        Self::LastOwner,
        Self::MessageDeleted,
        Self::NotTheSender,
        Self::EtagMismatch,
        Self::ConversationIdTaken,
    ];

    /// Returns `None` for a number that is no outcome.
    pub(crate) fn from_number(number: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| *outcome as i16 == number)
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
