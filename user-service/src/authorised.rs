//! The only way to read or write accounts: [`authorise`] returns an [`Authorised`], and the reads and writes of RPCs demand one. An
//! RPC that forgets to ask does not compile.

use service_kit::caller::Caller;

use crate::domain::{Rpc, Rule, UserId};

/// Proof that the caller may make one RPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Authorised(Rpc);

impl Authorised {
    /// Returns the RPC.
    pub(crate) fn rpc(self) -> Rpc {
        self.0
    }

    /// Returns a proof without a check.
    #[cfg(test)]
    pub(crate) const fn unchecked(rpc: Rpc) -> Self {
        Self(rpc)
    }
}

/// An RPC that the caller may not make.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotAuthorised {
    /// The RPC is for the operator's own systems.
    #[error("the caller may not manage users")]
    NotAnOperator,
    /// The RPC is about another user than the caller's.
    #[error("the caller may not act for this user")]
    AnotherUser { user_id: UserId },
}

/// Checks the rule of an RPC. `account` is the user whose account a request is about, if it is about one. Without
/// authentication every caller is trusted; a kind of caller not named here is refused.
///
/// # Errors
/// [`NotAuthorised`]; nothing was done.
pub(crate) fn authorise(caller: &Caller, rpc: Rpc, account: Option<&UserId>) -> Result<Authorised, NotAuthorised> {
    let refusal = match (rpc.rule(), account) {
        (Rule::Anyone, _) => None,
        (Rule::OwnAccount, Some(user_id)) => {
            (!caller.may_act_for(user_id.as_str())).then(|| NotAuthorised::AnotherUser { user_id: user_id.clone() })
        }
        (Rule::Operator, _) | (Rule::OwnAccount, None) => match caller {
            Caller::Trusted => None,
            _ => Some(NotAuthorised::NotAnOperator),
        },
    };
    refusal.map_or(Ok(Authorised(rpc)), Err)
}
