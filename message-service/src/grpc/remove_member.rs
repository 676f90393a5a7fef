//! `RemoveMember`: removes a member, or oneself. Whoever is removed need not be active any more.

use parlance::message::v1;
use service_kit::failure::{Failure, Violations};
use tonic::Request;

use super::{authorise, change, decode, service::Context, status::Subject};
use crate::{domain::conversation::Id, storage::append::ChangeKind};

#[expect(clippy::struct_field_names, reason = "ids are all that is asked with")]
struct Asked {
    conversation_id: Id,
    actor_id: Id,
    user_id: Id,
}

pub(super) async fn answer(
    context: &Context,
    request: Request<v1::RemoveMemberRequest>,
) -> Result<v1::RemoveMemberResponse, Failure> {
    let Asked { conversation_id, actor_id, user_id } = decode(request.get_ref())?;
    let deadline = authorise::actor(context, request.extensions(), &actor_id).await?;

    let kind = ChangeKind::RemoveMember { user_id: user_id.clone() };
    let subject = Subject { user_id: &user_id, ..Subject::new(&conversation_id, &actor_id) };
    change::apply(context, kind, &subject, deadline).await?;
    Ok(v1::RemoveMemberResponse {})
}

fn decode(request: &v1::RemoveMemberRequest) -> Result<Asked, Failure> {
    let mut violations = Violations::default();
    let conversation_id = decode::conversation_id(&mut violations, "conversation_id", &request.conversation_id);
    let actor_id = decode::user_id(&mut violations, "actor_id", &request.actor_id);
    let user_id = decode::user_id(&mut violations, "user_id", &request.user_id);
    violations.into_result().map(|()| Asked { conversation_id, actor_id, user_id })
}
