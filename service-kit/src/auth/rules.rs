//! What kind of caller a method is for. Default deny: a method that no service gave a rule is refused.

use super::{
    Caller, Role,
    caller::{not_allowed, token_missing},
};
use crate::failure::{Failure, Reason};

/// The demands of a method on its caller, before its message is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// None, as for probes.
    Open,
    /// Any known caller.
    AnyCaller,
    /// A user, or a backend that names one: the method acts for a user.
    Actor,
    /// The user whose account it is, or a backend.
    Account,
    /// One of the operator's own systems, message-service included.
    Directory,
    /// A backend: the method manages accounts.
    Manager,
}

impl Rule {
    /// Returns whether callers of a role may use a method of this rule.
    pub const fn admits(self, role: Role) -> bool {
        match (self, role) {
            (_, Role::Service | Role::Operator)
            | (Self::Open | Self::AnyCaller, _)
            | (Self::Actor | Self::Account, Role::User)
            | (Self::Directory, Role::Directory) => true,
            (Self::Actor | Self::Account, Role::Directory)
            | (Self::Directory, Role::User)
            | (Self::Manager, Role::User | Role::Directory) => false,
        }
    }

    /// Holds the rule against a caller.
    ///
    /// # Errors
    /// `TOKEN_MISSING` for nobody known, `CALLER_NOT_ALLOWED` for the wrong role.
    pub fn check(self, caller: &Caller) -> Result<(), Failure> {
        match (self, caller) {
            (Self::Open, _) | (_, Caller::Trusted) => Ok(()),
            (_, Caller::Anonymous) => Err(token_missing()),
            (_, Caller::Known(principal)) if self.admits(principal.role) => Ok(()),
            (_, Caller::Known(principal)) => {
                let text = format!("this method is not for callers of the role {}", principal.role.name());
                Err(not_allowed(&text))
            }
        }
    }
}

/// Refuses a method that has no rule: nobody may call it, and who is not known does not learn whether it exists.
pub(crate) fn check_unruled(caller: &Caller) -> Result<(), Failure> {
    match caller {
        Caller::Anonymous => Err(token_missing()),
        Caller::Trusted | Caller::Known(_) => Err(Failure::of(Reason::Unimplemented, "no such method")),
    }
}

/// The rule of each method, by path, such as `/parlance.user.v1.UserService/GetUser`.
pub type Rules = Vec<(&'static str, Rule)>;
