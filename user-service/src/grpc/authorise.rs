//! Authorises calls: each RPC names itself and gets an [`Authorised`] back, without which nothing can be read or written.

use service_kit::{auth::Caller, failure::Failure};
use tonic::Extensions;

use crate::{
    authorised::{Authorised, authorise},
    domain::{Rpc, UserId},
};

/// Checks that the caller may make this RPC.
///
/// # Errors
/// `CALLER_NOT_ALLOWED`.
pub(super) fn caller(rpc: Rpc, extensions: &Extensions) -> Result<Authorised, Failure> {
    authorise(&Caller::of(extensions), rpc, None)
}

/// Checks that the caller may make this RPC about the account of a user.
///
/// # Errors
/// `CALLER_NOT_ALLOWED`.
pub(super) fn caller_for(rpc: Rpc, extensions: &Extensions, user_id: &UserId) -> Result<Authorised, Failure> {
    authorise(&Caller::of(extensions), rpc, Some(user_id))
}
