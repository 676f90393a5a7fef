//! `GetConversation`: returns one conversation.

use parlance::message::v1;
use service_kit::{failure::Failure, fields::Fields};
use tonic::Request;

use super::{access, authorise, context::Context, convert, decode};
use crate::domain::{
    ids::{ConversationId, UserId},
    rpc::Rpc,
};

pub(super) async fn answer(
    context: &Context,
    request: Request<v1::GetConversationRequest>,
) -> Result<v1::Conversation, Failure> {
    let (conversation_id, actor_id) = decode(request.get_ref())?;
    let actor = authorise::actor(context, Rpc::GetConversation, request.extensions(), actor_id).await?;
    let (conversation, _) = access::reader(context, &actor, &conversation_id).await?;
    Ok(convert::conversation(&conversation))
}

pub(super) fn decode(request: &v1::GetConversationRequest) -> Result<(ConversationId, UserId), Failure> {
    let mut fields = Fields::default();
    let conversation_id = decode::conversation_id(&mut fields, &request.conversation_id);
    let actor_id = decode::actor_id(&mut fields, &request.actor_id);
    fields.finish((conversation_id, actor_id))
}
