//! Which conversations a user may look at: one's own, and channels. Whoever may not look is told what would be told if
//! there were no such conversation.

use service_kit::failure::Failure;

use super::service::Context;
use crate::domain::{
    conversation::{Conversation, Id, Kind, Member},
    refusal::Refusal,
};

/// The conversation, if the user may read it, and the user's part in it, if there is one.
///
/// # Errors
/// `ConversationNotFound`, also for a DIRECT or GROUP conversation of others.
pub(super) async fn reader(
    context: &Context,
    conversation_id: &Id,
    user_id: &Id,
) -> Result<(Conversation, Option<Member>), Failure> {
    match context.store.view_conversation(conversation_id, user_id).await? {
        Some((conversation, member)) if member.is_some() || conversation.kind == Kind::Channel => {
            Ok((conversation, member))
        }
        Some(_) | None => Err(Refusal::ConversationNotFound { conversation_id: conversation_id.clone() }.into()),
    }
}

/// The conversation and the user's part in it.
///
/// # Errors
/// Those of [`reader`], and `NotAMember` for a CHANNEL that the user has not joined.
pub(super) async fn member(
    context: &Context,
    conversation_id: &Id,
    user_id: &Id,
) -> Result<(Conversation, Member), Failure> {
    let (conversation, member) = reader(context, conversation_id, user_id).await?;
    let not_a_member = || Refusal::NotAMember { conversation_id: conversation_id.clone(), user_id: user_id.clone() };
    Ok((conversation, member.ok_or_else(not_a_member)?))
}
