//! `GetMessage`: returns one message as it is now.

use parlance::message::v1;
use service_kit::{failure::Failure, fields::Fields};
use tonic::Request;

use super::{access, authorise, context::Context, convert, decode};
use crate::domain::{
    ids::{ConversationId, UserId},
    refusal::Refusal,
    rpc::Rpc,
    sequence::Sequence,
};

pub(super) async fn answer(context: &Context, request: Request<v1::GetMessageRequest>) -> Result<v1::Message, Failure> {
    let (conversation_id, sequence, actor_id) = decode(request.get_ref())?;
    let actor = authorise::actor(context, Rpc::GetMessage, request.extensions(), actor_id).await?;
    access::reader(context, &actor, &conversation_id).await?;
    let message = context.store.find_message(&actor, &conversation_id, sequence).await?;
    Ok(convert::message(message.ok_or(Refusal::MessageNotFound { conversation_id, sequence })?))
}

pub(super) fn decode(request: &v1::GetMessageRequest) -> Result<(ConversationId, Sequence, UserId), Failure> {
    let mut fields = Fields::default();
    let conversation_id = decode::conversation_id(&mut fields, &request.conversation_id);
    let sequence = decode::sequence(&mut fields, request.sequence);
    let actor_id = decode::actor_id(&mut fields, &request.actor_id);
    fields.finish((conversation_id, sequence, actor_id))
}
