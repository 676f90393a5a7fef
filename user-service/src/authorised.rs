//! The only way to read or write accounts: [`authorise`] returns an [`Authorised`], and the reads and writes of RPCs demand one. An
//! RPC that forgets to ask does not compile.

use service_kit::{
    auth::{Caller, Role, Rule},
    failure::Failure,
};

use crate::domain::{Rpc, UserId};

/// Proof that the caller may make one RPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Authorised {
    rpc: Rpc,
    sees_revocations: bool,
}

impl Authorised {
    /// Returns the RPC.
    pub(crate) fn rpc(self) -> Rpc {
        self.rpc
    }

    /// Returns whether the caller is shown since when tokens of users are valid: backends and message-service are, users not.
    pub(crate) fn sees_revocations(self) -> bool {
        self.sees_revocations
    }

    /// Returns a proof without a check.
    #[cfg(test)]
    pub(crate) const fn unchecked(rpc: Rpc) -> Self {
        Self { rpc, sees_revocations: true }
    }
}

/// Checks the rule of an RPC. `account` is the user whose account a request is about, if it is about one. Without
/// authentication every caller is trusted.
///
/// # Errors
/// `TOKEN_MISSING` or `CALLER_NOT_ALLOWED`; nothing was done.
pub(crate) fn authorise(caller: &Caller, rpc: Rpc, account: Option<&UserId>) -> Result<Authorised, Failure> {
    let rule = rpc.rule();
    rule.check(caller)?;
    if let (Rule::Account, Some(user_id)) = (rule, account) {
        caller.acting_user(user_id.as_str())?;
    }
    Ok(Authorised { rpc, sees_revocations: caller.role() != Some(Role::User) })
}
