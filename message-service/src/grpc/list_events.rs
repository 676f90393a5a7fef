//! `ListEvents`: the log itself, dense and oldest first.

use parlance::message::v1;
use service_kit::failure::{Failure, Violations};
use tonic::Request;

use super::{access, authorise, convert, decode, service::Context};
use crate::{
    domain::{conversation::Id, refusal::Refusal},
    storage::MAX_PAGE_BYTES,
};

struct Asked {
    conversation_id: Id,
    actor_id: Id,
    after_sequence: i64,
    page_size: i64,
}

pub(super) async fn answer(
    context: &Context,
    request: Request<v1::ListEventsRequest>,
) -> Result<v1::ListEventsResponse, Failure> {
    let Asked { conversation_id, actor_id, after_sequence, page_size } = decode(request.get_ref())?;
    authorise::actor(context, request.extensions(), &actor_id).await?;
    let (conversation, _) = access::reader(context, &conversation_id, &actor_id).await?;
    if after_sequence >= conversation.last_sequence {
        return Ok(v1::ListEventsResponse { events: Vec::new(), last_sequence: conversation.last_sequence });
    }

    // What is not kept any more cannot be shown.
    let after_sequence = after_sequence.max(conversation.oldest_sequence - 1);
    let page = context.store.read_log(&conversation_id, after_sequence, page_size, MAX_PAGE_BYTES).await?;
    let page = page.ok_or(Refusal::ConversationNotFound { conversation_id })?;
    Ok(v1::ListEventsResponse {
        events: page.events.iter().map(convert::event_to_proto).collect(),
        last_sequence: page.last_sequence,
    })
}

fn decode(request: &v1::ListEventsRequest) -> Result<Asked, Failure> {
    let mut violations = Violations::default();
    let conversation_id = decode::conversation_id(&mut violations, "conversation_id", &request.conversation_id);
    let actor_id = decode::user_id(&mut violations, "actor_id", &request.actor_id);
    let after_sequence = decode::position(&mut violations, "after_sequence", request.after_sequence);
    let page_size = decode::page_size(&mut violations, request.page_size);
    violations.into_result().map(|()| Asked { conversation_id, actor_id, after_sequence, page_size })
}
