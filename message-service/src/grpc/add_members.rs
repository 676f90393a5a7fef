//! `AddMembers`: adds members, all or none. Users who are members already stay as they are.

use parlance::message::v1;
use service_kit::{failure::Failure, fields::Fields};
use tonic::Request;

use super::{authorise, change, context::Context, convert, decode, status::Subject};
use crate::domain::{
    change::{ChangeKind, member::AddMembers},
    conversation::Role,
    ids::{ConversationId, UserId},
    rpc::Rpc,
};

pub(super) struct Params {
    pub(super) conversation_id: ConversationId,
    pub(super) actor_id: UserId,
    pub(super) user_ids: Vec<UserId>,
    pub(super) role: Role,
}

pub(super) async fn answer(
    context: &Context,
    request: Request<v1::AddMembersRequest>,
) -> Result<v1::AddMembersResponse, Failure> {
    let Params { conversation_id, actor_id, user_ids, role } = decode(request.get_ref())?;
    let actor = authorise::actor_and(context, Rpc::AddMembers, request.extensions(), actor_id, &user_ids).await?;

    let kind = ChangeKind::AddMembers(AddMembers { user_ids: user_ids.clone(), role });
    change::apply(context, &actor, kind, &Subject::new(&conversation_id, &actor)).await?;

    let members = context.store.find_members(&actor, &conversation_id, &user_ids).await?;
    Ok(v1::AddMembersResponse { members: members.iter().map(convert::member).collect() })
}

pub(super) fn decode(request: &v1::AddMembersRequest) -> Result<Params, Failure> {
    let mut fields = Fields::default();
    let conversation_id = decode::conversation_id(&mut fields, &request.conversation_id);
    let actor_id = decode::actor_id(&mut fields, &request.actor_id);
    decode::demand(&mut fields, !request.user_ids.is_empty(), "user_ids", "must be 1 to 1,000 ids");
    let user_ids = decode::user_ids(&mut fields, "user_ids", &request.user_ids);
    let role = decode::optional_role(&mut fields, request.role).map(|role| role.unwrap_or(Role::Member));
    let (conversation_id, actor_id, user_ids, role) = fields.finish((conversation_id, actor_id, user_ids, role))?;
    Ok(Params { conversation_id, actor_id, user_ids, role })
}
