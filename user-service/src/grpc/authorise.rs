//! Authorises calls: each RPC names itself and gets an [`Authorised`] back, without which nothing can be read or written.

use service_kit::{
    auth::{Caller, Role},
    failure::{Failure, Reason},
};
use tonic::Extensions;

use super::context::Context;
use crate::{
    authorised::{Authorised, authorise},
    domain::{Refusal, Rpc, UserId},
};

/// Checks that the caller may make this RPC, and of a user that it is active and its token not revoked.
///
/// # Errors
/// `TOKEN_MISSING`, `CALLER_NOT_ALLOWED`, `TOKEN_REVOKED` or a refusal of the user.
pub(super) async fn caller(context: &Context, rpc: Rpc, extensions: &Extensions) -> Result<Authorised, Failure> {
    let caller = Caller::of(extensions);
    let authorised = authorise(&caller, rpc, None)?;
    check_user(context, &caller, authorised).await?;
    Ok(authorised)
}

/// Does the same for an RPC about the account of a user.
pub(super) async fn caller_for(
    context: &Context,
    rpc: Rpc,
    extensions: &Extensions,
    user_id: &UserId,
) -> Result<Authorised, Failure> {
    let caller = Caller::of(extensions);
    let authorised = authorise(&caller, rpc, Some(user_id))?;
    check_user(context, &caller, authorised).await?;
    Ok(authorised)
}

/// Checks a caller that is a user.
async fn check_user(context: &Context, caller: &Caller, authorised: Authorised) -> Result<(), Failure> {
    let Some(principal) = caller.principal().filter(|principal| principal.role == Role::User) else { return Ok(()) };
    let user_id = UserId::parse(&principal.subject)
        .map_err(|_| Failure::internal("the subject of a user's token is no user id"))?;
    let user = context.lookups.find(authorised, user_id.clone()).await?;
    let user = user.ok_or(Refusal::UserNotFound { user_id })?.require_active()?;
    if user.tokens_valid_after.is_some_and(|after| principal.issued_at < after.unix_timestamp()) {
        return Err(Failure::of(Reason::TokenRevoked, "the token was revoked: sign in again"));
    }
    Ok(())
}
