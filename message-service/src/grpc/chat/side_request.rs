//! The requests of a session that are handled one at a time, beside its messages.

use std::time::Instant;

use service_kit::failure::Failure;

use super::super::{context::Context, mark_read, send_typing};
use crate::{
    actor::Actor,
    domain::{ids::ConversationId, rpc::Rpc, sequence::Position},
};

/// A request that is handled one at a time, beside the messages.
pub(super) enum SideRequest {
    MarkRead { conversation_id: ConversationId, up_to: Position },
    Typing { conversation_id: ConversationId },
}

impl SideRequest {
    /// Handles it. Returns its conversation, and the read mark after a request that moves it.
    pub(super) async fn handle(
        self,
        context: &Context,
        actor: &Actor,
        deadline: Instant,
    ) -> Result<(ConversationId, Option<Position>), Failure> {
        let actor = actor.recheck(&context.directory, self.rpc(), deadline).await?;
        match self {
            Self::MarkRead { conversation_id, up_to } => {
                let member = mark_read::mark(context, &actor, &conversation_id, up_to).await?;
                Ok((conversation_id, Some(member.last_read_sequence)))
            }
            Self::Typing { conversation_id } => {
                send_typing::broadcast(context, &actor, &conversation_id).await?;
                Ok((conversation_id, None))
            }
        }
    }

    /// Returns the RPC that does the same.
    fn rpc(&self) -> Rpc {
        match self {
            Self::MarkRead { .. } => Rpc::MarkRead,
            Self::Typing { .. } => Rpc::SendTyping,
        }
    }
}
