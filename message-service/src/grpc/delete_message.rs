//! `DeleteMessage`: turns a message into a tombstone.

use parlance::message::v1;
use service_kit::failure::{Failure, Violations};
use tonic::Request;

use super::{authorise, change, convert, decode, service::Context, status::Subject};
use crate::{
    domain::{conversation::Id, refusal::Refusal},
    storage::append::ChangeKind,
};

struct Asked {
    conversation_id: Id,
    sequence: i64,
    actor_id: Id,
}

pub(super) async fn answer(
    context: &Context,
    request: Request<v1::DeleteMessageRequest>,
) -> Result<v1::Message, Failure> {
    let Asked { conversation_id, sequence, actor_id } = decode(request.get_ref())?;
    let deadline = authorise::actor(context, request.extensions(), &actor_id).await?;

    let kind = ChangeKind::DeleteMessage { sequence };
    let subject = Subject { sequence, ..Subject::new(&conversation_id, &actor_id) };
    change::apply(context, kind, &subject, deadline).await?;

    let message = context.store.find_message(&conversation_id, sequence).await?;
    Ok(convert::message_to_proto(message.ok_or(Refusal::MessageNotFound { conversation_id, sequence })?))
}

fn decode(request: &v1::DeleteMessageRequest) -> Result<Asked, Failure> {
    let mut violations = Violations::default();
    let conversation_id = decode::conversation_id(&mut violations, "conversation_id", &request.conversation_id);
    let sequence = decode::sequence(&mut violations, "sequence", request.sequence);
    let actor_id = decode::user_id(&mut violations, "actor_id", &request.actor_id);
    violations.into_result().map(|()| Asked { conversation_id, sequence, actor_id })
}
