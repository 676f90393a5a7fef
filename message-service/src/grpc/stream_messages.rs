//! `StreamMessages`: streams one conversation's log from a position on, without an end.

use parlance::message::v1::StreamMessagesRequest;
use service_kit::{failure::Failure, fields::Fields};
use tonic::Request;

use super::{
    access, authorise,
    context::Context,
    decode,
    outgoing::{Ends, Outgoing},
};
use crate::{
    actor::Actor,
    domain::{
        conversation::Kind,
        epoch::Epoch,
        ids::{ConversationId, UserId},
        refusal::Refusal,
        rpc::Rpc,
        sequence::Position,
    },
    log::subscription::Subscription,
};

pub(super) struct Params {
    conversation_id: ConversationId,
    actor_id: UserId,
    /// `None`: from the head on.
    after: Option<Position>,
    /// The epoch of `after`, if the client knows it.
    epoch: Option<Epoch>,
}

pub(super) async fn answer(context: &Context, request: Request<StreamMessagesRequest>) -> Result<Outgoing, Failure> {
    let params = decode(request.get_ref())?;
    let actor = authorise::actor(context, Rpc::StreamMessages, request.extensions(), params.actor_id.clone()).await?;
    let begin = begin(context.clone(), actor.clone(), params);
    let subscription = context.beginnings.read(actor.user_id(), Box::pin(begin)).await?;
    let open_stream = context.directory.open_stream(actor.user_id(), actor.tenure().clone());
    Ok(Outgoing::of_one(subscription, open_stream, Ends::of(request.extensions())))
}

/// Starts the subscription.
async fn begin(context: Context, actor: Actor, params: Params) -> Result<Subscription, Failure> {
    let Params { conversation_id, after, epoch, .. } = params;
    // Registers first and reads then: entries committed in between move the head that is followed.
    let pending = Subscription::to_one(&context.live, &context.pages, &actor, &conversation_id);
    let (conversation, member) = access::reader(&context, &actor, &conversation_id).await?;
    let last_sequence = conversation.last_sequence;
    if let Some(after) = after {
        let resumption = pending.resumption(&context.pages, after, epoch.as_ref()).await?;
        if let Some(last_sequence) = resumption.ahead_of(last_sequence) {
            return Err(Refusal::SequenceAhead { conversation_id, sequence: after, last_sequence }.into());
        }
    }
    let after = after.unwrap_or(last_sequence);
    // A reader of a CHANNEL may leave it and keep reading.
    let member = member.filter(|_| conversation.kind != Kind::Channel);
    Ok(pending.after(&conversation, member.map(|member| member.join_sequence), after))
}

pub(super) fn decode(request: &StreamMessagesRequest) -> Result<Params, Failure> {
    let mut fields = Fields::default();
    let conversation_id = decode::conversation_id(&mut fields, &request.conversation_id);
    let actor_id = decode::actor_id(&mut fields, &request.actor_id);
    let after = fields.check("after_sequence", request.after_sequence.map(Position::parse).transpose());
    let epoch = fields.parse("epoch", &request.epoch, Epoch::parse);
    let (conversation_id, actor_id, (after, epoch)) = fields.finish((conversation_id, actor_id, after.and(epoch)))?;
    Ok(Params { conversation_id, actor_id, after, epoch })
}
