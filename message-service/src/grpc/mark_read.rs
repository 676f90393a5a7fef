//! `MarkRead`: moves the actor's read mark up, never back, and never beyond the head.

use parlance::message::v1;
use service_kit::{failure::Failure, fields::Fields};
use tonic::Request;

use super::{access, authorise, context::Context, convert, decode, status};
use crate::{
    actor::Actor,
    domain::{
        conversation::Member,
        ephemeral::{Ephemeral, EphemeralKind},
        ids::{ConversationId, UserId},
        rpc::Rpc,
        sequence::Position,
    },
    storage::read_marks::Marked,
};

pub(super) async fn answer(context: &Context, request: Request<v1::MarkReadRequest>) -> Result<v1::Member, Failure> {
    let (conversation_id, actor_id, up_to) = decode(request.get_ref())?;
    let actor = authorise::actor(context, Rpc::MarkRead, request.extensions(), actor_id).await?;
    Ok(convert::member(&mark(context, &actor, &conversation_id, up_to).await?))
}

/// Moves the mark and returns the member as it is then.
pub(super) async fn mark(
    context: &Context,
    actor: &Actor,
    conversation_id: &ConversationId,
    up_to: Position,
) -> Result<Member, Failure> {
    let marked = context.writers.mark_read(actor, conversation_id, up_to).await;
    match marked.map_err(|error| status::of_write(error, conversation_id, true))? {
        Some(marked) => {
            if marked.has_moved {
                broadcast(context, &marked);
            }
            Ok(marked.member)
        }
        // Returns the refusal. A user who joined in between has read everything up to the join.
        None => Ok(access::member(context, actor, conversation_id).await?.1),
    }
}

/// Notifies the member's own streams, and the other members if they are few.
fn broadcast(context: &Context, Marked { member, has_small_audience, .. }: &Marked) {
    let Member { conversation_id, user_id, last_read_sequence, .. } = member;
    context.broadcast_ephemeral(Ephemeral {
        conversation_id: conversation_id.clone(),
        user_id: user_id.clone(),
        kind: EphemeralKind::ReadMarker { last_read_sequence: *last_read_sequence },
        to_others: *has_small_audience,
    });
}

pub(super) fn decode(request: &v1::MarkReadRequest) -> Result<(ConversationId, UserId, Position), Failure> {
    let mut fields = Fields::default();
    let conversation_id = decode::conversation_id(&mut fields, &request.conversation_id);
    let actor_id = decode::actor_id(&mut fields, &request.actor_id);
    let up_to = decode::position(&mut fields, "sequence", request.sequence);
    fields.finish((conversation_id, actor_id, up_to))
}
