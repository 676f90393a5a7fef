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
    member::{AddMembers, RemoveMember, UpdateMember},
    message::{DeleteMessage, EditMessage},
};
use super::{
    ids::{ConversationId, UserId},
    rpc::Rpc,
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
            Self::UpdateConversation(change) => change,
        }
    }

    /// Returns the RPC that makes this change.
    pub(crate) fn rpc(&self) -> Rpc {
        match self {
            Self::EditMessage(_) => Rpc::EditMessage,
            Self::DeleteMessage(_) => Rpc::DeleteMessage,
            Self::AddMembers(_) => Rpc::AddMembers,
            Self::RemoveMember(_) => Rpc::RemoveMember,
            Self::UpdateMember(_) => Rpc::UpdateMember,
            Self::UpdateConversation(_) => Rpc::UpdateConversation,
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
