//! Authentication: who calls, and what kind of caller a method is for.
//!
//! A layer of the server turns the credentials of a call into a [`Caller`] and holds the [`Rule`] of its method against it;
//! handlers find the caller in the extensions. Nothing here knows a user or a conversation: a subject is a text, and each
//! service brings the rules of its methods.

mod algorithm;
mod args;
mod authenticator;
mod caller;
mod file;
mod issue;
mod jwks;
mod keys;
mod rules;
mod secret;
mod seen;
mod settings;
mod source;
mod strict_json;
mod tenure;
#[cfg(test)]
mod testing;
mod token;
mod verifier;

pub(crate) use self::rules::check_unruled;
pub use self::{
    args::AuthArgs,
    authenticator::Authenticator,
    caller::{Caller, KeyId, Principal, Role, Via},
    issue::{IssueError, Issuer, NewToken, SelfToken},
    rules::{Rule, Rules},
    secret::create_secret,
    settings::{ISSUER, JwksSettings, KeyFile, Mode, PublicKeySettings, Settings},
    tenure::{Follow, Moment, Tenure},
    token::{Refusal, unverified},
    verifier::Verifier,
};
