//! `AddMembers`: adds members, all or none. Who is a member already stays as it is.

use parlance::message::v1;
use service_kit::failure::{Failure, Violations};
use tonic::Request;

use super::{authorise, change, convert, decode, service::Context, status::Subject};
use crate::{
    domain::conversation::{Id, Role},
    storage::append::ChangeKind,
};

struct Asked {
    conversation_id: Id,
    actor_id: Id,
    user_ids: Vec<Id>,
    role: Role,
}

pub(super) async fn answer(
    context: &Context,
    request: Request<v1::AddMembersRequest>,
) -> Result<v1::AddMembersResponse, Failure> {
    let Asked { conversation_id, actor_id, user_ids, role } = decode(request.get_ref())?;
    let users: Vec<Id> = std::iter::once(&actor_id).chain(&user_ids).cloned().collect();
    let deadline = authorise::users(context, request.extensions(), &users).await?;

    let kind = ChangeKind::AddMembers { user_ids: user_ids.clone(), role };
    change::apply(context, kind, &Subject::new(&conversation_id, &actor_id), deadline).await?;

    let members = context.store.find_members(&conversation_id, &user_ids).await?;
    Ok(v1::AddMembersResponse { members: members.iter().map(convert::member_to_proto).collect() })
}

fn decode(request: &v1::AddMembersRequest) -> Result<Asked, Failure> {
    let mut violations = Violations::default();
    let conversation_id = decode::conversation_id(&mut violations, "conversation_id", &request.conversation_id);
    let actor_id = decode::user_id(&mut violations, "actor_id", &request.actor_id);
    if request.user_ids.is_empty() {
        violations.add("user_ids", "must be 1 to 1,000 ids");
    }
    let user_ids = decode::user_ids(&mut violations, "user_ids", &request.user_ids);
    let role = decode::role(&mut violations, request.role).unwrap_or(Role::Member);
    violations.into_result().map(|()| Asked { conversation_id, actor_id, user_ids, role })
}
