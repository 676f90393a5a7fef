//! `GetMessage`: one message as it is now.

use parlance::message::v1;
use service_kit::failure::{Failure, Violations};
use tonic::Request;

use super::{access, authorise, convert, decode, service::Context};
use crate::domain::{conversation::Id, refusal::Refusal};

struct Asked {
    conversation_id: Id,
    sequence: i64,
    actor_id: Id,
}

pub(super) async fn answer(context: &Context, request: Request<v1::GetMessageRequest>) -> Result<v1::Message, Failure> {
    let Asked { conversation_id, sequence, actor_id } = decode(request.get_ref())?;
    authorise::actor(context, request.extensions(), &actor_id).await?;
    access::reader(context, &conversation_id, &actor_id).await?;
    let message = context.store.find_message(&conversation_id, sequence).await?;
    Ok(convert::message_to_proto(message.ok_or(Refusal::MessageNotFound { conversation_id, sequence })?))
}

fn decode(request: &v1::GetMessageRequest) -> Result<Asked, Failure> {
    let mut violations = Violations::default();
    let conversation_id = decode::conversation_id(&mut violations, "conversation_id", &request.conversation_id);
    let sequence = decode::sequence(&mut violations, "sequence", request.sequence);
    let actor_id = decode::user_id(&mut violations, "actor_id", &request.actor_id);
    violations.into_result().map(|()| Asked { conversation_id, sequence, actor_id })
}
