//! Who is calling, and the one answer to "may this caller act for this user?".
//!
//! A layer of the server resolves the caller and puts it into the request's extensions; handlers take it from there. It
//! knows neither users nor roles of conversations: those are the services' rules.

use http::Extensions;

/// The party behind a call.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Caller {
    /// No authentication is configured: whoever can reach the port is trusted with the ids it gives.
    Trusted,
}

impl Caller {
    /// The caller that the server's layer resolved. Without that layer, as in tests of a bare handler: trusted.
    pub fn of(extensions: &Extensions) -> Self {
        extensions.get().cloned().unwrap_or(Self::Trusted)
    }

    /// Tells whether this caller may act on behalf of the user.
    pub fn may_act_for(&self, user_id: &str) -> bool {
        let _ = user_id;
        match self {
            Self::Trusted => true,
        }
    }
}
