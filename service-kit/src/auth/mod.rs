//! Authentication: who calls, and what kind of caller a method is for.
//!
//! A layer of the server turns the credentials of a call into a [`Caller`] and holds the [`Rule`] of its method against it;
//! handlers find the caller in the extensions. Nothing here knows a user or a conversation: a subject is a text, and each
//! service brings the rules of its methods.

mod authenticator;
mod caller;
mod rules;
mod tenure;

pub(crate) use self::rules::check_unruled;
pub use self::{
    authenticator::Authenticator,
    caller::{Caller, KeyId, Principal, Role, Via},
    rules::{Rule, Rules},
    tenure::{Follow, Moment, Tenure},
};
