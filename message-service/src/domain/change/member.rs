//! Changes of members: `member_joined`, `member_left` and `member_updated`.

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{details::ChangeDetails, outcome::Outcome};
use crate::domain::{conversation::Role, ids::UserId};

/// The size that storing a member counts for, with its entry and its part of the outbox row, in bytes.
const STORED_MEMBER_BYTES: usize = 256;

/// A change of one member, as its entry shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MemberChange {
    pub(crate) user_id: UserId,
    /// The role from this change on; the last one of a member that left.
    pub(crate) role: Role,
    pub(crate) joined_at: OffsetDateTime,
}

/// Adds those of the users that are no members yet.
#[derive(Debug, Clone)]
pub(crate) struct AddMembers {
    pub(crate) user_ids: Vec<UserId>,
    pub(crate) role: Role,
}

impl ChangeDetails for AddMembers {
    fn to_json(&self) -> Value {
        let users: Vec<&str> = self.user_ids.iter().map(UserId::as_str).collect();
        json!({ "kind": "add", "users": users, "role": self.role as i16 })
    }

    fn bytes(&self) -> usize {
        self.user_ids.len() * STORED_MEMBER_BYTES
    }

    fn added_users(&self) -> &[UserId] {
        &self.user_ids
    }
}

/// Removes a member. An actor that removes itself leaves, which takes no verb.
#[derive(Debug, Clone)]
pub(crate) struct RemoveMember {
    pub(crate) user_id: UserId,
}

impl ChangeDetails for RemoveMember {
    fn to_json(&self) -> Value {
        json!({ "kind": "remove", "user": self.user_id.as_str() })
    }

    fn is_done_by(&self, actor_id: &UserId, refusal: Outcome) -> bool {
        if self.user_id == *actor_id {
            matches!(refusal, Outcome::ConversationNotFound | Outcome::NotAMember)
        } else {
            refusal == Outcome::MemberNotFound
        }
    }
}

/// Changes the role of a member.
#[derive(Debug, Clone)]
pub(crate) struct UpdateMember {
    pub(crate) user_id: UserId,
    pub(crate) role: Role,
}

impl ChangeDetails for UpdateMember {
    fn to_json(&self) -> Value {
        json!({ "kind": "role", "user": self.user_id.as_str(), "role": self.role as i16 })
    }
}

/// Makes a member owner in place of owners whose accounts are deleted, unless there is another owner.
#[derive(Debug, Clone)]
pub(crate) struct SucceedOwners {
    pub(crate) successor: UserId,
    pub(crate) deleted_owners: Vec<UserId>,
}

impl ChangeDetails for SucceedOwners {
    fn to_json(&self) -> Value {
        let owners: Vec<&str> = self.deleted_owners.iter().map(UserId::as_str).collect();
        json!({ "kind": "succession", "user": self.successor.as_str(), "owners": owners })
    }

    fn bytes(&self) -> usize {
        (self.deleted_owners.len() + 1) * STORED_MEMBER_BYTES
    }
}
