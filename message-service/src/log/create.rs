//! Making a conversation: tried until it is answered or its caller's time is over.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{shard::Pause, writer::WriteError};
use crate::{
    domain::{change::Outcome, conversation::NewConversation, ids::ConversationId},
    storage::{Error, Store},
};

pub(super) async fn create(
    store: &Store,
    new: &NewConversation,
    deadline: Instant,
) -> Result<(Outcome, ConversationId), WriteError> {
    let mut doubt = None;
    let mut pause = Pause::default();
    loop {
        let error = match store.create_conversation(new).await {
            Ok(made) => return Ok(made),
            Err(error) => Arc::new(error),
        };
        if error.outcome_is_unknown() {
            doubt = Some(error.clone());
        }
        let again = error.is_outage() || matches!(*error, Error::Serialization(_) | Error::LockTimeout(_));
        if !again || deadline <= Instant::now() + Duration::from_millis(1) {
            return Err(doubt.map_or(WriteError::NotStored(error), WriteError::OutcomeUnknown));
        }
        tracing::warn!(cause = &error as &dyn std::error::Error, "making a conversation failed and is tried again");
        pause.wait().await;
    }
}
