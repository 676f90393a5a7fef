//! Who may call what here. Without authentication every caller is trusted; a caller of a kind not named here is refused.

use parlance::error::v1::ErrorReason;
use service_kit::{caller::Caller, failure::Failure};
use tonic::{Code, Extensions};

use super::status::reason;
use crate::domain::UserId;

/// Calls that manage accounts: for whoever runs the product, not for its users.
pub(super) fn admin(extensions: &Extensions) -> Result<(), Failure> {
    match Caller::of(extensions) {
        Caller::Trusted => Ok(()),
        _ => Err(not_allowed("the caller may not manage users")),
    }
}

/// Calls about one's own account.
pub(super) fn user(extensions: &Extensions, user_id: &UserId) -> Result<(), Failure> {
    if Caller::of(extensions).may_act_for(user_id.as_str()) {
        Ok(())
    } else {
        Err(not_allowed("the caller may not act for this user").with("user_id", user_id.as_str()))
    }
}

fn not_allowed(message: &str) -> Failure {
    Failure::new(Code::PermissionDenied, reason(ErrorReason::CallerNotAllowed), message)
}
