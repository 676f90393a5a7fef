//! A hint, the transport that carries it, and the receiver that it is applied to.

use std::future::Future;

use service_kit::lifecycle::BoxError;

use crate::domain::{encoded::EncodedEntry, ephemeral::Ephemeral, ids::ConversationId};

/// A notification from one replica to the others. It may be lost, and it may be wrong.
#[derive(Debug, Default)]
pub(crate) struct Hint {
    /// Something was committed that is not among the entries, so poll the outbox.
    pub(crate) poll: bool,
    /// The newest entries of conversations, encoded.
    pub(crate) entries: Vec<ConversationEntries>,
    /// Typing and read markers.
    pub(crate) ephemerals: Vec<Ephemeral>,
}

/// Consecutive entries of one conversation, at least one, in order.
#[derive(Debug, Clone)]
pub(crate) struct ConversationEntries {
    pub(crate) conversation_id: ConversationId,
    pub(crate) entries: Vec<EncodedEntry>,
}

/// A transport of hints between replicas. One task sends while another receives; after an error the next call connects
/// again.
pub(crate) trait Bus: Send + Sync + 'static {
    /// Sends a hint to the other replicas. Dropping the future drops the hint.
    fn send(&self, hint: Hint) -> impl Future<Output = Result<(), BoxError>> + Send;

    /// Waits for the next hint of another replica.
    fn receive(&self) -> impl Future<Output = Result<Hint, BoxError>> + Send;
}

/// The receiver of hints from other replicas: the live logs.
pub(crate) trait Sink: Clone + Send + Sync + 'static {
    /// Appends the entries of a conversation. Returns false if entries are missing in between, so that storage must be
    /// read.
    fn entries(&self, conversation_id: &ConversationId, entries: Vec<EncodedEntry>) -> bool;

    /// Delivers an ephemeral to the subscribers of its conversation.
    fn ephemeral(&self, ephemeral: &Ephemeral);
}
