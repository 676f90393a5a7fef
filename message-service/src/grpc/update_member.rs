//! `UpdateMember`: changes a member's role.

use parlance::message::v1;
use service_kit::failure::{Failure, Violations};
use tonic::Request;

use super::{authorise, change, convert, decode, service::Context, status::Subject};
use crate::{
    domain::{
        conversation::{Id, Role},
        refusal::Refusal,
    },
    storage::append::ChangeKind,
};

struct Asked {
    conversation_id: Id,
    actor_id: Id,
    user_id: Id,
    role: Role,
}

pub(super) async fn answer(
    context: &Context,
    request: Request<v1::UpdateMemberRequest>,
) -> Result<v1::Member, Failure> {
    let Asked { conversation_id, actor_id, user_id, role } = decode(request.get_ref())?;
    let deadline = authorise::actor(context, request.extensions(), &actor_id).await?;

    let kind = ChangeKind::UpdateMember { user_id: user_id.clone(), role };
    let subject = Subject { user_id: &user_id, ..Subject::new(&conversation_id, &actor_id) };
    change::apply(context, kind, &subject, deadline).await?;

    let members = context.store.find_members(&conversation_id, std::slice::from_ref(&user_id)).await?;
    // Gone in between: then that is how it is now.
    let member = members.first().ok_or(Refusal::MemberNotFound { conversation_id, user_id })?;
    Ok(convert::member_to_proto(member))
}

fn decode(request: &v1::UpdateMemberRequest) -> Result<Asked, Failure> {
    let mut violations = Violations::default();
    let conversation_id = decode::conversation_id(&mut violations, "conversation_id", &request.conversation_id);
    let actor_id = decode::user_id(&mut violations, "actor_id", &request.actor_id);
    let user_id = decode::user_id(&mut violations, "user_id", &request.user_id);
    let role = decode::role(&mut violations, request.role);
    if request.role == v1::MemberRole::Unspecified as i32 {
        violations.add("role", "is required");
    }
    violations.into_result()?;
    let role = role.ok_or_else(|| Failure::internal("a field was refused without a word"))?;
    Ok(Asked { conversation_id, actor_id, user_id, role })
}
