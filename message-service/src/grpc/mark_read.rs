//! `MarkRead`: moves the actor's read mark up, never back, and never beyond the head.

use parlance::message::v1;
use service_kit::failure::{Failure, Violations};
use tonic::Request;

use super::{access, authorise, convert, decode, send_typing, service::Context};
use crate::domain::{
    conversation::{Id, Member},
    ephemeral::{Ephemeral, EphemeralKind},
};

struct Asked {
    conversation_id: Id,
    actor_id: Id,
    sequence: i64,
}

pub(super) async fn answer(context: &Context, request: Request<v1::MarkReadRequest>) -> Result<v1::Member, Failure> {
    let Asked { conversation_id, actor_id, sequence } = decode(request.get_ref())?;
    authorise::actor(context, request.extensions(), &actor_id).await?;
    Ok(convert::member_to_proto(&mark(context, &conversation_id, &actor_id, sequence).await?))
}

/// The same for a user who is known to be active.
pub(super) async fn mark(
    context: &Context,
    conversation_id: &Id,
    actor_id: &Id,
    sequence: i64,
) -> Result<Member, Failure> {
    match context.store.mark_read(conversation_id, actor_id, sequence).await? {
        Some((member, has_moved)) => {
            if has_moved {
                tell(context, &member).await;
            }
            Ok(member)
        }
        // Says why not. Who has joined in between has read everything up to the join.
        None => Ok(access::member(context, conversation_id, actor_id).await?.1),
    }
}

/// Tells the member's own streams, and the others where they are few. The mark is moved, whatever becomes of this.
async fn tell(context: &Context, member: &Member) {
    let Member { conversation_id, user_id, last_read_sequence, .. } = member;
    let to_others = send_typing::has_small_audience(context, conversation_id, user_id).await.unwrap_or(false);
    context.pass_on(Ephemeral {
        conversation_id: conversation_id.clone(),
        user_id: user_id.clone(),
        kind: EphemeralKind::ReadMarker { last_read_sequence: *last_read_sequence },
        to_others,
    });
}

fn decode(request: &v1::MarkReadRequest) -> Result<Asked, Failure> {
    let mut violations = Violations::default();
    let conversation_id = decode::conversation_id(&mut violations, "conversation_id", &request.conversation_id);
    let actor_id = decode::user_id(&mut violations, "actor_id", &request.actor_id);
    let sequence = decode::position(&mut violations, "sequence", request.sequence);
    violations.into_result().map(|()| Asked { conversation_id, actor_id, sequence })
}
