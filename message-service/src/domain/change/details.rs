//! The properties that every kind of change has.

use serde_json::Value;

use super::outcome::Outcome;
use crate::domain::ids::UserId;

/// All that writers and storage need to know of one kind of change.
pub(super) trait ChangeDetails {
    /// Returns the change as `append_v1` takes it, without conversation and actor.
    fn to_json(&self) -> Value;

    /// Returns the size that it counts for in a queue and a batch, in bytes.
    fn bytes(&self) -> usize {
        0
    }

    /// Returns the users that it adds to the conversation.
    fn added_users(&self) -> &[UserId] {
        &[]
    }

    /// Reports whether a refusal means that an earlier try stored this change.
    fn is_done_by(&self, _actor_id: &UserId, _refusal: Outcome) -> bool {
        false
    }
}
