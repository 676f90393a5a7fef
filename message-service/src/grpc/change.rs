//! What all changes have in common: they go through the conversation's writer, and repeating them is harmless.

use std::time::Instant;

use service_kit::failure::Failure;

use super::{
    service::Context,
    status::{self, Subject},
};
use crate::storage::append::{Change, ChangeKind};

/// Makes a change; nothing left to change is fine, too.
///
/// # Errors
/// The refusal that its outcome is, or UNAVAILABLE when nobody knows what became of it: the same change again is safe.
pub(super) async fn apply(
    context: &Context,
    kind: ChangeKind,
    subject: &Subject<'_>,
    deadline: Instant,
) -> Result<(), Failure> {
    let (conversation_id, actor_id) = (subject.conversation_id.clone(), subject.actor_id.clone());
    let outcome = context.writers.change(Change { conversation_id, actor_id, kind }, deadline).await;
    subject.check(outcome.map_err(|error| status::of_write(error, subject.conversation_id, true))?)
}
