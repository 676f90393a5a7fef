//! `DeleteMessage`: turns a message into a tombstone.

use parlance::message::v1;
use service_kit::{failure::Failure, fields::Fields};
use tonic::Request;

use super::{authorise, change, context::Context, convert, decode, status::Subject};
use crate::domain::{
    change::{ChangeKind, message::DeleteMessage},
    ids::{ConversationId, UserId},
    refusal::Refusal,
    rpc::Rpc,
    sequence::Sequence,
};

pub(super) async fn answer(
    context: &Context,
    request: Request<v1::DeleteMessageRequest>,
) -> Result<v1::Message, Failure> {
    let (conversation_id, sequence, actor_id) = decode(request.get_ref())?;
    let actor = authorise::actor(context, Rpc::DeleteMessage, request.extensions(), actor_id).await?;

    let kind = ChangeKind::DeleteMessage(DeleteMessage { sequence });
    let subject = Subject { sequence: Some(sequence), ..Subject::new(&conversation_id, &actor) };
    change::apply(context, &actor, kind, &subject).await?;

    let message = context.store.find_message(&actor, &conversation_id, sequence).await?;
    Ok(convert::message(message.ok_or(Refusal::MessageNotFound { conversation_id, sequence })?))
}

pub(super) fn decode(request: &v1::DeleteMessageRequest) -> Result<(ConversationId, Sequence, UserId), Failure> {
    let mut fields = Fields::default();
    let conversation_id = decode::conversation_id(&mut fields, &request.conversation_id);
    let sequence = decode::sequence(&mut fields, request.sequence);
    let actor_id = decode::actor_id(&mut fields, &request.actor_id);
    fields.finish((conversation_id, sequence, actor_id))
}
