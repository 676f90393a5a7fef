//! Applies the hints of other replicas to the live logs.

use super::live::LiveLogs;
use crate::{
    bus::Sink,
    domain::{encoded::EncodedEntry, ephemeral::Ephemeral, ids::ConversationId},
};

impl Sink for LiveLogs {
    fn entries(&self, conversation_id: &ConversationId, entries: Vec<EncodedEntry>) -> bool {
        self.append_from_replica(conversation_id, entries)
    }

    fn ephemeral(&self, ephemeral: &Ephemeral) {
        self.broadcast_ephemeral(ephemeral);
    }
}
