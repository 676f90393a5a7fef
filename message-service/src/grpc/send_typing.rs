//! `SendTyping`: shows subscribers of a conversation that one of its members is typing.

use parlance::message::v1;
use service_kit::{failure::Failure, fields::Fields};
use tonic::Request;

use super::{access, authorise, context::Context, decode};
use crate::{
    actor::Actor,
    domain::{
        conversation::Kind,
        ephemeral::{Ephemeral, EphemeralKind, MAX_MEMBERS},
        ids::{ConversationId, UserId},
        refusal::Refusal,
        rpc::Rpc,
    },
};

pub(super) async fn answer(
    context: &Context,
    request: Request<v1::SendTypingRequest>,
) -> Result<v1::SendTypingResponse, Failure> {
    let (conversation_id, actor_id) = decode(request.get_ref())?;
    let actor = authorise::actor(context, Rpc::SendTyping, request.extensions(), actor_id).await?;
    broadcast(context, &actor, &conversation_id).await?;
    Ok(v1::SendTypingResponse {})
}

/// Shows the actor as typing, unless that was done a moment ago or the conversation is too large.
pub(super) async fn broadcast(
    context: &Context,
    actor: &Actor,
    conversation_id: &ConversationId,
) -> Result<(), Failure> {
    if context.typing.is_limited(conversation_id, actor.user_id()) {
        return Ok(());
    }
    if has_small_audience(context, actor, conversation_id).await? {
        context.broadcast_ephemeral(Ephemeral {
            conversation_id: conversation_id.clone(),
            user_id: actor.user_id().clone(),
            kind: EphemeralKind::Typing,
            to_others: true,
        });
    }
    context.typing.note(conversation_id, actor.user_id()).await;
    Ok(())
}

/// Tells whether the conversation has few enough members for ephemerals to reach all of them.
///
/// # Errors
/// `ConversationNotFound`, or `NotAMember` of a CHANNEL.
async fn has_small_audience(
    context: &Context,
    actor: &Actor,
    conversation_id: &ConversationId,
) -> Result<bool, Failure> {
    let audience = context.store.find_audience(actor, conversation_id, MAX_MEMBERS).await?;
    match audience {
        Some(audience) if audience.has_user => Ok(audience.is_small),
        Some(audience) if audience.kind == Kind::Channel => Err(access::not_a_member(actor, conversation_id).into()),
        Some(_) | None => Err(Refusal::ConversationNotFound { conversation_id: conversation_id.clone() }.into()),
    }
}

pub(super) fn decode(request: &v1::SendTypingRequest) -> Result<(ConversationId, UserId), Failure> {
    let mut fields = Fields::default();
    let conversation_id = decode::conversation_id(&mut fields, &request.conversation_id);
    let actor_id = decode::actor_id(&mut fields, &request.actor_id);
    fields.finish((conversation_id, actor_id))
}
