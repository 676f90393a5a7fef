//! Who may make a call at all: the caller must be allowed to act for the user it names, and user-service must know that
//! user, and all others that are named, as active. What the user may do in a conversation is decided where it is stored.

use std::time::{Duration, Instant};

use parlance::error::v1::ErrorReason;
use service_kit::{caller::Caller, failure::Failure, server::Deadline};
use tonic::{Code, Extensions};

use super::{service::Context, status::reason};
use crate::domain::conversation::Id;

/// Calls without a deadline get this one.
const DEFAULT_LIMIT: Duration = Duration::from_secs(30);

/// Makes sure that the caller may act for this user, and that the user is active. Gives the moment after which nobody
/// waits for the answer.
pub(super) async fn actor(context: &Context, extensions: &Extensions, actor_id: &Id) -> Result<Instant, Failure> {
    users(context, extensions, std::slice::from_ref(actor_id)).await
}

/// The same for several users, the first of whom acts. All of them must be active.
pub(super) async fn users(context: &Context, extensions: &Extensions, user_ids: &[Id]) -> Result<Instant, Failure> {
    let actor_id = user_ids.first().map_or("", |id| id);
    if !Caller::of(extensions).may_act_for(actor_id) {
        let text = "the caller may not act for this user";
        let not_allowed = Failure::new(Code::PermissionDenied, reason(ErrorReason::CallerNotAllowed), text);
        return Err(not_allowed.with("user_id", actor_id));
    }
    // Before the schema is there nothing can be answered, so nobody is asked either.
    context.page_tokens()?;
    let deadline = Instant::now() + Deadline::of(extensions).remaining_within(DEFAULT_LIMIT);
    context.directory.check_active(user_ids, deadline).await?;
    Ok(deadline)
}
