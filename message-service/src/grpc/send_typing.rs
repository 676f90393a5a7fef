//! `SendTyping`: tells those who look at a conversation that one of its members is typing.

use service_kit::failure::Failure;

use super::{access, service::Context};
use crate::domain::{
    conversation::Id,
    ephemeral::{Ephemeral, EphemeralKind},
};

/// Tells, on behalf of a user who is known to be active.
pub(super) async fn tell(context: &Context, conversation_id: &Id, actor_id: &Id) -> Result<(), Failure> {
    access::member(context, conversation_id, actor_id).await?;
    context.live.pass_on(&Ephemeral {
        conversation_id: conversation_id.clone(),
        user_id: actor_id.clone(),
        kind: EphemeralKind::Typing,
        to_others: true,
    });
    Ok(())
}
