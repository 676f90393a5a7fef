//! `GetConversation`: one conversation.

use parlance::message::v1;
use service_kit::failure::{Failure, Violations};
use tonic::Request;

use super::{access, authorise, convert, decode, service::Context};
use crate::domain::conversation::Id;

pub(super) async fn answer(
    context: &Context,
    request: Request<v1::GetConversationRequest>,
) -> Result<v1::Conversation, Failure> {
    let (conversation_id, actor_id) = decode(request.get_ref())?;
    authorise::actor(context, request.extensions(), &actor_id).await?;
    let (conversation, _) = access::reader(context, &conversation_id, &actor_id).await?;
    Ok(convert::conversation_to_proto(&conversation))
}

fn decode(request: &v1::GetConversationRequest) -> Result<(Id, Id), Failure> {
    let mut violations = Violations::default();
    let conversation_id = decode::conversation_id(&mut violations, "conversation_id", &request.conversation_id);
    let actor_id = decode::user_id(&mut violations, "actor_id", &request.actor_id);
    violations.into_result().map(|()| (conversation_id, actor_id))
}
