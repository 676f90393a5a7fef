//! Authorises calls: each RPC names itself and gets an [`Authorised`] back, without which nothing can be read or written.

use service_kit::{
    caller::Caller,
    failure::{Failure, Reason},
};
use tonic::Extensions;

use crate::{
    authorised::{Authorised, NotAuthorised, authorise},
    domain::{Rpc, UserId},
};

/// Checks that the caller may make this RPC.
///
/// # Errors
/// `CALLER_NOT_ALLOWED`.
pub(super) fn caller(rpc: Rpc, extensions: &Extensions) -> Result<Authorised, Failure> {
    Ok(authorise(&Caller::of(extensions), rpc, None)?)
}

/// Checks that the caller may make this RPC about the account of a user.
///
/// # Errors
/// `CALLER_NOT_ALLOWED`.
pub(super) fn caller_for(rpc: Rpc, extensions: &Extensions, user_id: &UserId) -> Result<Authorised, Failure> {
    Ok(authorise(&Caller::of(extensions), rpc, Some(user_id))?)
}

impl From<NotAuthorised> for Failure {
    fn from(error: NotAuthorised) -> Self {
        let failure = Self::of(Reason::CallerNotAllowed, error.to_string());
        match error {
            NotAuthorised::NotAnOperator => failure,
            NotAuthorised::AnotherUser { user_id } => failure.with("user_id", user_id.as_str()),
        }
    }
}
