//! The caller of an RPC, and the one check for whom it may act.

use std::sync::Arc;

use http::Extensions;

use crate::failure::{Failure, Reason};

/// What a known caller may do in principle. Each method has a rule about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// A user, who acts for itself alone.
    User,
    /// message-service, which asks user-service about users and changes nothing.
    Directory,
    /// A backend, which acts for the user that it names, with the rights of that user, and manages users.
    Service,
    /// A backend that also has the rights of an owner in each conversation.
    Operator,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 4] = [Self::User, Self::Directory, Self::Service, Self::Operator];

    /// Returns the name, as it stands in tokens and settings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Directory => "directory",
            Self::Service => "service",
            Self::Operator => "operator",
        }
    }

    /// Returns the role of this name, in this very spelling.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

/// The key by which a caller was recognised: the fingerprint of the key of its token, or of its certificate. Says nothing
/// about a secret, so it may be logged.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KeyId(Arc<str>);

impl KeyId {
    /// Wraps a fingerprint.
    pub fn new(fingerprint: impl Into<Arc<str>>) -> Self {
        Self(fingerprint.into())
    }

    /// Returns the fingerprint.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The kind of credentials of a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// A token in the metadata of the call.
    Token,
    /// The client certificate of the connection.
    Certificate,
}

/// A caller whose credentials were verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// Its name: of a user, the user id.
    pub subject: Arc<str>,
    /// Its role.
    pub role: Role,
    /// When the credentials were issued, in seconds since 1970.
    pub issued_at: i64,
    /// When they end, in seconds since 1970.
    pub expires_at: i64,
    /// The key that vouched for them.
    pub key: KeyId,
    /// The id of the token, if it has one.
    pub jti: Option<Arc<str>>,
    /// The kind of credentials.
    pub via: Via,
}

/// The party behind a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// No authentication is configured, or a call without a token is let through while clients move over: it is trusted
    /// with the user ids that it sends.
    Trusted,
    /// Nobody that is known.
    Anonymous,
    /// A caller with verified credentials.
    Known(Arc<Principal>),
}

impl Caller {
    /// Returns the caller that the server's layer resolved. Without that layer anonymous, so that what is mounted beside
    /// it is closed, not open.
    pub fn of(extensions: &Extensions) -> Self {
        extensions.get().cloned().unwrap_or(Self::Anonymous)
    }

    /// Returns the principal of a known caller.
    pub fn principal(&self) -> Option<&Principal> {
        match self {
            Self::Known(principal) => Some(principal),
            Self::Trusted | Self::Anonymous => None,
        }
    }

    /// Returns the role of a known caller.
    pub fn role(&self) -> Option<Role> {
        self.principal().map(|principal| principal.role)
    }

    /// Returns who acts: `named`, the user that the request names, if the caller may act for it. Where none is named, the
    /// subject of a user's token; for every other caller the text stays empty, which no handler takes for a user.
    ///
    /// # Errors
    /// `CALLER_NOT_ALLOWED`.
    pub fn acting_user<'a>(&'a self, named: &'a str) -> Result<&'a str, Failure> {
        match self {
            Self::Trusted => Ok(named),
            Self::Anonymous => Err(token_missing()),
            Self::Known(principal) => match principal.role {
                Role::User if named.is_empty() || *named == *principal.subject => Ok(&principal.subject),
                Role::User | Role::Directory => {
                    Err(not_allowed("the caller may not act for this user").with("user_id", named))
                }
                Role::Service | Role::Operator => Ok(named),
            },
        }
    }

    /// Names the user who acts in a field of a request, where it is empty: the subject of a user's token.
    ///
    /// # Errors
    /// Those of [`acting_user`](Self::acting_user).
    pub fn name_actor(&self, named: &mut String) -> Result<(), Failure> {
        let user = self.acting_user(named)?;
        if *user != **named {
            *named = user.to_owned();
        }
        Ok(())
    }
}

/// The refusal of a call without credentials where they are needed.
pub(crate) fn token_missing() -> Failure {
    let text = "this method needs a caller: send a token in the metadata authorization, as Bearer and the token";
    Failure::of(Reason::TokenMissing, text)
}

/// The refusal of a known caller.
pub(crate) fn not_allowed(text: &str) -> Failure {
    Failure::of(Reason::CallerNotAllowed, text)
}
