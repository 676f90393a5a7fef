//! `RemoveMember`: removes a member, or the actor itself. The user removed need not be active any more.

use parlance::message::v1;
use service_kit::{failure::Failure, fields::Fields};
use tonic::Request;

use super::{authorise, change, context::Context, decode, status::Subject};
use crate::domain::{
    change::{ChangeKind, member::RemoveMember},
    ids::{ConversationId, UserId},
    rpc::Rpc,
};

pub(super) struct Params {
    pub(super) conversation_id: ConversationId,
    pub(super) actor_id: UserId,
    pub(super) removed: UserId,
}

pub(super) async fn answer(
    context: &Context,
    request: Request<v1::RemoveMemberRequest>,
) -> Result<v1::RemoveMemberResponse, Failure> {
    let Params { conversation_id, actor_id, removed } = decode(request.get_ref())?;
    let actor = authorise::actor(context, Rpc::RemoveMember, request.extensions(), actor_id).await?;

    let kind = ChangeKind::RemoveMember(RemoveMember { user_id: removed.clone() });
    let subject = Subject { user_id: &removed, ..Subject::new(&conversation_id, &actor) };
    change::apply(context, &actor, kind, &subject).await?;
    Ok(v1::RemoveMemberResponse {})
}

pub(super) fn decode(request: &v1::RemoveMemberRequest) -> Result<Params, Failure> {
    let mut fields = Fields::default();
    let conversation_id = decode::conversation_id(&mut fields, &request.conversation_id);
    let actor_id = decode::actor_id(&mut fields, &request.actor_id);
    let removed = fields.parse("user_id", &request.user_id, UserId::parse);
    let (conversation_id, actor_id, removed) = fields.finish((conversation_id, actor_id, removed))?;
    Ok(Params { conversation_id, actor_id, removed })
}
