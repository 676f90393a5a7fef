//! Authorises calls: each RPC names itself and its actor and gets an [`Actor`] back, without which nothing can be read or
//! written.

use std::time::{Duration, Instant};

use service_kit::{failure::Failure, server::Deadline};
use tonic::Extensions;

use super::context::Context;
use crate::{
    actor::{self, Actor},
    domain::{ids::UserId, rpc::Rpc},
};

/// The deadline of calls that bring none.
const DEFAULT_LIMIT: Duration = Duration::from_secs(30);

/// Checks that the caller may act for this user and that the user is active.
///
/// # Errors
/// `CALLER_NOT_ALLOWED`, a refusal of the user, or UNAVAILABLE.
pub(super) async fn actor(
    context: &Context,
    rpc: Rpc,
    extensions: &Extensions,
    actor_id: UserId,
) -> Result<Actor, Failure> {
    actor_and(context, rpc, extensions, actor_id, &[]).await
}

/// Does the same, and checks that all `others` named by the request are active, too.
pub(super) async fn actor_and(
    context: &Context,
    rpc: Rpc,
    extensions: &Extensions,
    actor_id: UserId,
    others: &[UserId],
) -> Result<Actor, Failure> {
    // Before the schema is ready nothing can be answered, so user-service is not asked either.
    context.page_tokens()?;
    let deadline = Instant::now() + Deadline::of(extensions).remaining_within(DEFAULT_LIMIT);
    Ok(actor::authorise(&context.directory, extensions, rpc, actor_id, others, deadline).await?)
}
