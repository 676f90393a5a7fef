//! Creation of a conversation: retried until it succeeds or its caller's deadline has passed.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use service_kit::causes::causes;

use super::work::{WriteError, retry_backoff};
use crate::{
    domain::{change::Outcome, conversation::NewConversation, ids::ConversationId},
    log::clock::Clock,
    storage::Store,
};

/// Creates a conversation.
pub(super) async fn create(
    store: &Store,
    new: &NewConversation,
    deadline: Instant,
    clock: &Clock,
) -> Result<(Outcome, ConversationId), WriteError> {
    let mut in_doubt = None;
    let mut backoff = retry_backoff();
    loop {
        let error = match store.create_conversation(new).await {
            Ok(created) => return Ok(created),
            Err(error) => Arc::new(error),
        };
        if error.outcome_is_unknown() {
            in_doubt = Some(error.clone());
        }
        let may_retry = error.is_outage() || error.is_lost_race();
        if !may_retry || deadline <= clock.now() + Duration::from_millis(1) {
            return Err(in_doubt.map_or_else(|| WriteError::not_stored(error), WriteError::OutcomeUnknown));
        }
        tracing::warn!(cause = causes(&error), "creating a conversation failed and is retried");
        backoff.wait().await;
    }
}
