//! Changes of a conversation that take a sequence: one file for each noun, with all that is particular to its kinds.
//!
//! A new kind is a type with its [`ChangeDetails`] in one of these files or a new one, and one line in each list below.

pub(crate) mod conversation;
mod details;
pub(crate) mod member;
pub(crate) mod message;
mod outcome;

use serde_json::Value;

use self::{
    conversation::UpdateConversation,
    details::ChangeDetails,
    member::{AddMembers, RemoveMember, SucceedOwners, UpdateMember},
    message::{DeleteMessage, EditMessage},
};
use super::{
    ids::{ConversationId, UserId},
    rpc::{Rpc, Rule},
};

pub(crate) use self::outcome::{Outcome, SendOutcome};

/// Anything but a message that takes a sequence.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) conversation_id: ConversationId,
    pub(crate) actor_id: UserId,
    pub(crate) kind: ChangeKind,
}

/// A change of any kind.
#[derive(Debug, Clone)]
pub(crate) enum ChangeKind {
    EditMessage(EditMessage),
    DeleteMessage(DeleteMessage),
    AddMembers(AddMembers),
    RemoveMember(RemoveMember),
    UpdateMember(UpdateMember),
    SucceedOwners(SucceedOwners),
    UpdateConversation(UpdateConversation),
}

impl ChangeKind {
    fn details(&self) -> &dyn ChangeDetails {
        match self {
            Self::EditMessage(change) => change,
            Self::DeleteMessage(change) => change,
            Self::AddMembers(change) => change,
            Self::RemoveMember(change) => change,
            Self::UpdateMember(change) => change,
            Self::SucceedOwners(change) => change,
            Self::UpdateConversation(change) => change,
        }
    }

    /// Reports whether this RPC may make this change.
    pub(crate) fn belongs_to(&self, rpc: Rpc) -> bool {
        match self {
            Self::EditMessage(_) => rpc == Rpc::EditMessage,
            Self::DeleteMessage(_) => rpc == Rpc::DeleteMessage,
            Self::AddMembers(_) => rpc == Rpc::AddMembers,
            Self::RemoveMember(_) => rpc == Rpc::RemoveMember,
            Self::UpdateMember(_) => rpc == Rpc::UpdateMember,
            // Precedes any change that takes a role.
            Self::SucceedOwners(_) => matches!(rpc.rule(), Rule::May(_)),
            Self::UpdateConversation(_) => rpc == Rpc::UpdateConversation,
        }
    }

    /// Returns the users that this adds to the conversation.
    pub(crate) fn added_users(&self) -> &[UserId] {
        self.details().added_users()
    }
}

impl Change {
    /// Returns the size that it counts for in a queue and a batch, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.kind.details().bytes()
    }

    /// Returns the change as `append_v1` takes it. `position` is that of its conversation in the batch, from 1.
    pub(crate) fn to_json(&self, position: i32) -> Value {
        let mut value = self.kind.details().to_json();
        value["c"] = position.into();
        value["actor"] = self.actor_id.as_str().into();
        value
    }

    /// Reports whether a refusal means that an earlier try stored this change, such as a removal that finds no member to
    /// remove any more.
    pub(crate) fn is_done_by(&self, refusal: Outcome) -> bool {
        self.kind.details().is_done_by(&self.actor_id, refusal)
    }
}

/// The kinds of entries of a log, with the numbers of `changes.kind`. No others are used anywhere in this service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntryKind {
    /// Stored in `messages` and not in `changes`.
    MessageSent = 0,
    MessageEdited = 1,
    MessageDeleted = 2,
    MemberJoined = 3,
    MemberLeft = 4,
    MemberUpdated = 5,
    ConversationUpdated = 6,
}

impl EntryKind {
    const ALL: [Self; 7] = [
        Self::MessageSent,
        Self::MessageEdited,
        Self::MessageDeleted,
        Self::MemberJoined,
        Self::MemberLeft,
        Self::MemberUpdated,
        Self::ConversationUpdated,
    ];

    /// Returns `None` for a number that is no kind.
    pub(crate) fn from_number(number: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }

    /// Returns the number of the kind.
    pub(crate) fn number(self) -> i16 {
        self as i16
    }
}
