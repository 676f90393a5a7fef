//! `ListMembers`: pages of members by user id, for members.

use parlance::message::v1;
use service_kit::failure::{Failure, Violations};
use tonic::Request;

use super::{access, authorise, convert, decode, service::Context};
use crate::domain::conversation::Id;

struct Asked {
    conversation_id: Id,
    actor_id: Id,
    page_size: i64,
}

pub(super) async fn answer(
    context: &Context,
    request: Request<v1::ListMembersRequest>,
) -> Result<v1::ListMembersResponse, Failure> {
    let Asked { conversation_id, actor_id, page_size } = decode(request.get_ref())?;
    authorise::actor(context, request.extensions(), &actor_id).await?;

    let (tokens, bound) = (context.page_tokens()?, ["ListMembers", &*conversation_id, &*actor_id]);
    let last_key = tokens.open(&bound, &request.get_ref().page_token)?;
    let after = String::from_utf8(last_key.unwrap_or_default()).map_err(Failure::internal)?;
    access::member(context, &conversation_id, &actor_id).await?;

    let page = context.store.list_members(&conversation_id, &after, page_size).await?;
    let next = page.items.last().filter(|_| page.has_more);
    let next_page_token = next.map(|member| tokens.seal(&bound, member.user_id.as_bytes()));
    Ok(v1::ListMembersResponse {
        members: page.items.iter().map(convert::member_to_proto).collect(),
        next_page_token: next_page_token.unwrap_or_default(),
    })
}

fn decode(request: &v1::ListMembersRequest) -> Result<Asked, Failure> {
    let mut violations = Violations::default();
    let conversation_id = decode::conversation_id(&mut violations, "conversation_id", &request.conversation_id);
    let actor_id = decode::user_id(&mut violations, "actor_id", &request.actor_id);
    let page_size = decode::page_size(&mut violations, request.page_size);
    violations.into_result().map(|()| Asked { conversation_id, actor_id, page_size })
}
