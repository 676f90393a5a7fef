//! `ListMembers`: lists members by user id, for members.

use parlance::message::v1;
use service_kit::{failure::Failure, fields::Fields};
use tonic::Request;

use super::{access, authorise, context::Context, convert, decode};
use crate::domain::{
    ids::{ConversationId, UserId},
    rpc::Rpc,
};

pub(super) async fn answer(
    context: &Context,
    request: Request<v1::ListMembersRequest>,
) -> Result<v1::ListMembersResponse, Failure> {
    let (conversation_id, actor_id, page_size) = decode(request.get_ref())?;
    let actor = authorise::actor(context, Rpc::ListMembers, request.extensions(), actor_id).await?;

    let bound = ["ListMembers", conversation_id.as_str(), actor.user_id().as_str()];
    let tokens = context.page_tokens()?;
    let last_key = tokens.open(&bound, &request.get_ref().page_token)?;
    let after = String::from_utf8(last_key.unwrap_or_default()).map_err(Failure::internal)?;
    access::member(context, &actor, &conversation_id).await?;

    let page = context.store.list_members(&actor, &conversation_id, &after, page_size).await?;
    let next = page.items.last().filter(|_| page.has_more);
    let next_page_token = next.map(|member| tokens.seal(&bound, member.user_id.as_bytes()));
    Ok(v1::ListMembersResponse {
        members: page.items.iter().map(convert::member).collect(),
        next_page_token: next_page_token.unwrap_or_default(),
    })
}

pub(super) fn decode(request: &v1::ListMembersRequest) -> Result<(ConversationId, UserId, i64), Failure> {
    let mut fields = Fields::default();
    let conversation_id = decode::conversation_id(&mut fields, &request.conversation_id);
    let actor_id = decode::actor_id(&mut fields, &request.actor_id);
    let page_size = fields.page_size(request.page_size);
    fields.finish((conversation_id, actor_id, page_size))
}
