//! Decides which conversations an actor may see: its own, and channels. A conversation that the actor may not see gets the
//! same answer as one that does not exist.

use service_kit::failure::Failure;

use super::context::Context;
use crate::{
    actor::Actor,
    domain::{
        conversation::{Conversation, Kind, Member},
        ids::ConversationId,
        refusal::Refusal,
    },
};

/// Returns the conversation if the rule of the actor's RPC lets it read this, and the actor's membership if there is one.
///
/// # Errors
/// `ConversationNotFound`, also for a DIRECT or GROUP conversation of others.
pub(super) async fn reader(
    context: &Context,
    actor: &Actor,
    conversation_id: &ConversationId,
) -> Result<(Conversation, Option<Member>), Failure> {
    let view = context.store.view_conversation(actor, conversation_id).await?;
    let is_visible = |(conversation, member): &(Conversation, Option<Member>)| {
        member.is_some() || conversation.kind == Kind::Channel
    };
    let not_found = || Refusal::ConversationNotFound { conversation_id: conversation_id.clone() };
    let (conversation, member) = view.filter(is_visible).ok_or_else(not_found)?;
    if member.is_none() && !actor.rpc().is_open_to_readers() {
        return Err(not_a_member(actor, conversation_id).into());
    }
    Ok((conversation, member))
}

/// Returns the conversation and the actor's membership.
///
/// # Errors
/// Those of [`reader`], and `NotAMember` for a CHANNEL that the actor has not joined.
pub(super) async fn member(
    context: &Context,
    actor: &Actor,
    conversation_id: &ConversationId,
) -> Result<(Conversation, Member), Failure> {
    let (conversation, member) = reader(context, actor, conversation_id).await?;
    Ok((conversation, member.ok_or_else(|| not_a_member(actor, conversation_id))?))
}

pub(super) fn not_a_member(actor: &Actor, conversation_id: &ConversationId) -> Refusal {
    Refusal::NotAMember { conversation_id: conversation_id.clone(), user_id: actor.user_id().clone() }
}
