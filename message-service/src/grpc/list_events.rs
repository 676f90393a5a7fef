//! `ListEvents`: lists the log itself, dense and oldest first.

use parlance::message::v1;
use service_kit::{failure::Failure, fields::Fields};
use tonic::Request;

use super::{access, authorise, context::Context, convert, decode};
use crate::{
    domain::{
        ids::{ConversationId, UserId},
        refusal::Refusal,
        rpc::Rpc,
        sequence::Position,
    },
    storage::MAX_PAGE_BYTES,
};

pub(super) struct Params {
    pub(super) conversation_id: ConversationId,
    pub(super) actor_id: UserId,
    pub(super) after: Position,
    pub(super) page_size: i64,
}

pub(super) async fn answer(
    context: &Context,
    request: Request<v1::ListEventsRequest>,
) -> Result<v1::ListEventsResponse, Failure> {
    let Params { conversation_id, actor_id, after, page_size } = decode(request.get_ref())?;
    let actor = authorise::actor(context, Rpc::ListEvents, request.extensions(), actor_id).await?;
    let (conversation, _) = access::reader(context, &actor, &conversation_id).await?;
    if after >= conversation.last_sequence {
        let last_sequence = conversation.last_sequence.get();
        return Ok(v1::ListEventsResponse { events: Vec::new(), last_sequence });
    }

    // Entries that are no longer kept cannot be listed.
    let after = after.max(conversation.oldest_sequence.before());
    // Entries after the head that the access check saw wait for the next call, which checks again: the actor may have been
    // removed before them.
    let last_sequence = conversation.last_sequence.get();
    let page_size = page_size.min(last_sequence - after.get());
    let page = context.store.read_log(&conversation_id, after, page_size, MAX_PAGE_BYTES).await?;
    let page = page.ok_or(Refusal::ConversationNotFound { conversation_id })?;
    Ok(v1::ListEventsResponse { events: page.events.iter().map(convert::event).collect(), last_sequence })
}

pub(super) fn decode(request: &v1::ListEventsRequest) -> Result<Params, Failure> {
    let mut fields = Fields::default();
    let conversation_id = decode::conversation_id(&mut fields, &request.conversation_id);
    let actor_id = decode::actor_id(&mut fields, &request.actor_id);
    let after = decode::position(&mut fields, "after_sequence", request.after_sequence);
    let page_size = fields.page_size(request.page_size);
    let (conversation_id, actor_id, after, page_size) = fields.finish((conversation_id, actor_id, after, page_size))?;
    Ok(Params { conversation_id, actor_id, after, page_size })
}
