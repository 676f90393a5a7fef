//! `UpdateMember`: changes a member's role.

use parlance::message::v1;
use service_kit::{failure::Failure, fields::Fields};
use tonic::Request;

use super::{authorise, change, context::Context, convert, decode, status::Subject};
use crate::domain::{
    change::{ChangeKind, member::UpdateMember},
    conversation::Role,
    ids::{ConversationId, UserId},
    refusal::Refusal,
    rpc::Rpc,
};

pub(super) struct Params {
    pub(super) conversation_id: ConversationId,
    pub(super) actor_id: UserId,
    pub(super) user_id: UserId,
    pub(super) role: Role,
}

pub(super) async fn answer(
    context: &Context,
    request: Request<v1::UpdateMemberRequest>,
) -> Result<v1::Member, Failure> {
    let Params { conversation_id, actor_id, user_id, role } = decode(request.get_ref())?;
    let actor = authorise::actor(context, Rpc::UpdateMember, request.extensions(), actor_id).await?;

    let kind = ChangeKind::UpdateMember(UpdateMember { user_id: user_id.clone(), role });
    let subject = Subject { user_id: &user_id, ..Subject::new(&conversation_id, &actor) };
    change::apply(context, &actor, kind, &subject).await?;

    let members = context.store.find_members(&actor, &conversation_id, std::slice::from_ref(&user_id)).await?;
    // May have been removed in between, and then that is the answer.
    let member = members.first().ok_or(Refusal::MemberNotFound { conversation_id, user_id })?;
    Ok(convert::member(member))
}

pub(super) fn decode(request: &v1::UpdateMemberRequest) -> Result<Params, Failure> {
    let mut fields = Fields::default();
    let conversation_id = decode::conversation_id(&mut fields, &request.conversation_id);
    let actor_id = decode::actor_id(&mut fields, &request.actor_id);
    let user_id = fields.parse("user_id", &request.user_id, UserId::parse);
    let role = decode::role(&mut fields, request.role);
    let (conversation_id, actor_id, user_id, role) = fields.finish((conversation_id, actor_id, user_id, role))?;
    Ok(Params { conversation_id, actor_id, user_id, role })
}
