//! `StreamMessages`: one conversation's log, from a position to for ever.

use parlance::message::v1::StreamMessagesRequest;
use service_kit::{
    failure::{Failure, Violations},
    server::Leaving,
};
use tonic::Request;

use super::{access, authorise, decode, outgoing::Outgoing, service::Context};
use crate::{
    domain::{
        conversation::{Id, Kind},
        refusal::Refusal,
    },
    log::subscription::Subscription,
};

struct Asked {
    conversation_id: Id,
    actor_id: Id,
    after_sequence: Option<i64>,
}

pub(super) async fn answer(context: &Context, request: Request<StreamMessagesRequest>) -> Result<Outgoing, Failure> {
    let Asked { conversation_id, actor_id, after_sequence } = decode(request.get_ref())?;
    authorise::actor(context, request.extensions(), &actor_id).await?;

    // Registered first, then read: what is committed in between moves the head that is followed.
    let beginning = Subscription::to_one(&context.live, &context.pages, &actor_id, &conversation_id);
    let (conversation, member) = access::reader(context, &conversation_id, &actor_id).await?;
    let last_sequence = conversation.last_sequence;
    let after = after_sequence.unwrap_or(last_sequence);
    if after > last_sequence {
        return Err(Refusal::SequenceAhead { conversation_id, sequence: after, last_sequence }.into());
    }
    // Who reads a channel may leave it and go on.
    let member = member.filter(|_| conversation.kind != Kind::Channel);
    let subscription = beginning.after(&conversation, member.map(|member| member.join_sequence), after);
    Ok(Outgoing::of_one(subscription, context.directory.attend(&actor_id), Leaving::of(request.extensions())))
}

fn decode(request: &StreamMessagesRequest) -> Result<Asked, Failure> {
    let mut violations = Violations::default();
    let conversation_id = decode::conversation_id(&mut violations, "conversation_id", &request.conversation_id);
    let actor_id = decode::user_id(&mut violations, "actor_id", &request.actor_id);
    let position = |after| decode::position(&mut violations, "after_sequence", after);
    let after_sequence = request.after_sequence.map(position);
    violations.into_result().map(|()| Asked { conversation_id, actor_id, after_sequence })
}
