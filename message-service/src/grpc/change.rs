//! The part that all changes share: each goes through the conversation's writer, and repeating it is harmless.

use service_kit::failure::Failure;

use super::{
    context::Context,
    status::{self, Subject},
};
use crate::{actor::Actor, domain::change::ChangeKind};

/// Applies a change. Succeeds, too, if nothing is left to change.
///
/// # Errors
/// The refusal that its outcome is; UNAVAILABLE if the outcome is unknown, after which the same change is safe to retry.
pub(super) async fn apply(
    context: &Context,
    actor: &Actor,
    kind: ChangeKind,
    subject: &Subject<'_>,
) -> Result<(), Failure> {
    let outcome = context.writers.change(actor, subject.conversation_id.clone(), kind).await;
    subject.check(outcome.map_err(|error| status::of_write(error, subject.conversation_id, true))?)
}
