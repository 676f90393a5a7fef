//! Which caller may call which RPC. Without authentication every caller is trusted; a kind of caller not named here is
//! refused.

use service_kit::{
    caller::Caller,
    failure::{Failure, Reason},
};
use tonic::Extensions;

use crate::domain::UserId;

/// Allows RPCs that manage accounts: those are for the operator's own systems, not for users.
pub(super) fn admin(extensions: &Extensions) -> Result<(), Failure> {
    match Caller::of(extensions) {
        Caller::Trusted => Ok(()),
        _ => Err(Failure::of(Reason::CallerNotAllowed, "the caller may not manage users")),
    }
}

/// Allows RPCs about the caller's own account.
pub(super) fn user(extensions: &Extensions, user_id: &UserId) -> Result<(), Failure> {
    if Caller::of(extensions).may_act_for(user_id.as_str()) {
        return Ok(());
    }
    let message = "the caller may not act for this user";
    Err(Failure::of(Reason::CallerNotAllowed, message).with("user_id", user_id.as_str()))
}
