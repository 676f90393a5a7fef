//! `SendTyping`: tells those who look at a conversation that one of its members is typing.

use std::time::Duration;

use moka::future::Cache;
use parlance::message::v1;
use service_kit::failure::{Failure, Violations};
use tonic::Request;

use super::{authorise, decode, service::Context};
use crate::domain::{
    conversation::{Id, Kind},
    ephemeral::{Ephemeral, EphemeralKind, MAX_MEMBERS},
    refusal::Refusal,
};

/// Of one member in one conversation no more than one is passed on in this time.
const LEAST_PAUSE: Duration = Duration::from_secs(2);

/// The most members whose last word is remembered.
const MAX_REMEMBERED: u64 = 100_000;

/// Remembers who was passed on a moment ago.
pub(super) fn limiter() -> Cache<(Id, Id), ()> {
    Cache::builder().max_capacity(MAX_REMEMBERED).time_to_live(LEAST_PAUSE).build()
}

pub(super) async fn answer(
    context: &Context,
    request: Request<v1::SendTypingRequest>,
) -> Result<v1::SendTypingResponse, Failure> {
    let mut violations = Violations::default();
    let asked = request.get_ref();
    let conversation_id = decode::conversation_id(&mut violations, "conversation_id", &asked.conversation_id);
    let actor_id = decode::user_id(&mut violations, "actor_id", &asked.actor_id);
    violations.into_result()?;
    authorise::actor(context, request.extensions(), &actor_id).await?;

    tell(context, &conversation_id, &actor_id).await?;
    Ok(v1::SendTypingResponse {})
}

/// Tells, on behalf of a user who is known to be active.
pub(super) async fn tell(context: &Context, conversation_id: &Id, actor_id: &Id) -> Result<(), Failure> {
    let key = (conversation_id.clone(), actor_id.clone());
    if context.typing.contains_key(&key) {
        return Ok(());
    }
    if has_small_audience(context, conversation_id, actor_id).await? {
        context.pass_on(Ephemeral {
            conversation_id: conversation_id.clone(),
            user_id: actor_id.clone(),
            kind: EphemeralKind::Typing,
            to_others: true,
        });
    }
    context.typing.insert(key, ()).await;
    Ok(())
}

/// Whether the others of a member's conversation are few enough to be told.
///
/// # Errors
/// `ConversationNotFound`, or `NotAMember` of a CHANNEL.
pub(super) async fn has_small_audience(context: &Context, conversation_id: &Id, user_id: &Id) -> Result<bool, Failure> {
    let audience = context.store.find_audience(conversation_id, user_id, MAX_MEMBERS).await?;
    match audience {
        Some(audience) if audience.has_user => Ok(audience.is_small),
        Some(audience) if audience.kind == Kind::Channel => {
            Err(Refusal::NotAMember { conversation_id: conversation_id.clone(), user_id: user_id.clone() }.into())
        }
        Some(_) | None => Err(Refusal::ConversationNotFound { conversation_id: conversation_id.clone() }.into()),
    }
}
