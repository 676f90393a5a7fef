//! The part that all changes share: each goes through the conversation's writer, and repeating it is harmless.

use service_kit::failure::Failure;

use super::{
    context::Context,
    status::{self, Subject},
    succession,
};
use crate::{
    actor::Actor,
    domain::change::{ChangeKind, Outcome},
};

/// Applies a change. Succeeds, too, if nothing is left to change. A change that is refused for want of a role is tried again
/// if the owners were deleted and a member has succeeded them.
///
/// # Errors
/// The refusal that its outcome is; UNAVAILABLE if the outcome is unknown, after which the same change is safe to retry.
pub(super) async fn apply(
    context: &Context,
    actor: &Actor,
    kind: ChangeKind,
    subject: &Subject<'_>,
) -> Result<(), Failure> {
    let conversation_id = subject.conversation_id;
    let change = async |kind| {
        let outcome = context.writers.change(actor, conversation_id.clone(), kind).await;
        outcome.map_err(|error| status::of_write(error, conversation_id, true))
    };
    let mut outcome = change(kind.clone()).await?;
    if outcome == Outcome::RoleInsufficient && succession::succeed(context, actor, conversation_id).await {
        outcome = change(kind).await?;
    }
    subject.check(outcome)
}
