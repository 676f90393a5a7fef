//! Succession: where the accounts of all owners are deleted, a member becomes owner, at the first change that is refused for
//! want of a role. user-service announces no deletions to conversations, so they are looked up then.

use std::time::{Duration, Instant};

use service_kit::causes::causes;

use super::context::Context;
use crate::{
    actor::Actor,
    directory::DirectoryError,
    domain::{
        change::{ChangeKind, Outcome, member::SucceedOwners},
        ids::{ConversationId, UserId},
    },
    storage,
};

/// The most owners and the most candidates that are considered. More owners than that are never succeeded.
const MAX_USERS: i64 = 1_000;

/// The timeout of the lookups. Most refusals are right, and must not wait for a user-service that is down.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);

/// Makes the longest-standing active admin owner, or the longest-standing active member if there is none, if
/// user-service knows all owners as deleted. Returns true if roles have changed. A failure leaves them as they are: the
/// next refused change tries again.
pub(super) async fn succeed(context: &Context, actor: &Actor, conversation_id: &ConversationId) -> bool {
    match find(context, actor, conversation_id).await {
        Ok(Some(succession)) => {
            let kind = ChangeKind::SucceedOwners(succession);
            let outcome = context.writers.change(actor, conversation_id.clone(), kind).await;
            // Unchanged: another replica was first, and the actor may be the successor.
            matches!(outcome, Ok(Outcome::Done | Outcome::Unchanged))
        }
        Ok(None) => false,
        Err(error) => {
            tracing::debug!(cause = causes(&error), "cannot check whether the owners are deleted");
            false
        }
    }
}

async fn find(
    context: &Context,
    actor: &Actor,
    conversation_id: &ConversationId,
) -> Result<Option<SucceedOwners>, Error> {
    let deleted_owners = context.store.list_owners(actor, conversation_id, MAX_USERS).await?;
    let deadline = actor.deadline().min(Instant::now() + LOOKUP_TIMEOUT);
    if !context.directory.are_deleted(&deleted_owners, deadline).await? {
        return Ok(None);
    }
    let mut candidates = context.store.list_successors(actor, conversation_id, MAX_USERS).await?;
    // Active for certain, in case that all others are deleted.
    candidates.push(actor.user_id().clone());
    let successor: Option<&UserId> = context.directory.first_active(&candidates, deadline).await?;
    Ok(successor.map(|successor| SucceedOwners { successor: successor.clone(), deleted_owners }))
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Storage(#[from] storage::Error),
    #[error(transparent)]
    Directory(#[from] DirectoryError),
}
