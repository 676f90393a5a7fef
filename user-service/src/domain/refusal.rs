//! Refusals: errors of the domain that are returned to the caller, created from the outcomes of writes. `grpc/status.rs` has the
//! reason of each.

use super::{NewUser, RequestId, User, UserId, UserState, Username};

/// A request that is refused although nothing failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// No user has this id.
    #[error("there is no user {user_id}")]
    UserNotFound { user_id: UserId },
    /// No user has this name, regardless of case.
    #[error("there is no user named {}", username.as_str())]
    UsernameNotFound { username: Username },
    /// The id and the name do not belong to one user.
    #[error("there is no user {user_id} named {}", username.as_str())]
    NotTheSameUser { user_id: UserId, username: Username },
    /// The user may not act until reactivated.
    #[error("user {user_id} is deactivated")]
    UserDeactivated { user_id: UserId },
    /// The user is a tombstone, which cannot change.
    #[error("user {user_id} was deleted")]
    UserDeleted { user_id: UserId },
    /// The id belongs, or once belonged, to another user.
    #[error("user id {user_id} is taken")]
    UserIdTaken { user_id: UserId },
    /// The name belongs to another user, regardless of case.
    #[error("username {} is taken", username.as_str())]
    UsernameTaken { username: Username },
    /// The request id was used before with other content.
    #[error("request_id {} was used before with other content", request_id.as_str())]
    RequestIdReused { request_id: RequestId },
    /// The user has changed since the caller read it.
    #[error("user {user_id} has changed since it was read")]
    EtagMismatch { user_id: UserId },
}

impl User {
    /// Returns the user if it may act.
    ///
    /// # Errors
    /// `UserDeactivated`, `UserDeleted`.
    pub(crate) fn require_active(self) -> Result<Self, Refusal> {
        match self.state {
            UserState::Active => Ok(self),
            UserState::Deactivated => Err(Refusal::UserDeactivated { user_id: self.user_id }),
            UserState::Deleted => Err(Refusal::UserDeleted { user_id: self.user_id }),
        }
    }
}

/// The outcome of creating a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Created {
    /// The user as it is now, created by this request or by an earlier one with the same request id.
    User(User),
    UserIdTaken,
    UsernameTaken,
    RequestIdReused(RequestId),
}

impl Created {
    /// Returns the user.
    ///
    /// # Errors
    /// `UserIdTaken`, `UsernameTaken`, `RequestIdReused`.
    pub(crate) fn into_user(self, new: &NewUser) -> Result<User, Refusal> {
        match self {
            Self::User(user) => Ok(user),
            Self::UserIdTaken => Err(Refusal::UserIdTaken { user_id: new.user_id.clone() }),
            Self::UsernameTaken => Err(Refusal::UsernameTaken { username: new.username.clone() }),
            Self::RequestIdReused(request_id) => Err(Refusal::RequestIdReused { request_id }),
        }
    }
}

/// The outcome of changing a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Changed {
    /// The user as it is now, changed or as it was.
    User(User),
    NotFound,
    Deleted,
    EtagMismatch,
    UsernameTaken(Username),
}

impl Changed {
    /// Returns the user.
    ///
    /// # Errors
    /// `UserNotFound`, `UserDeleted`, `EtagMismatch`, `UsernameTaken`.
    pub(crate) fn into_user(self, user_id: &UserId) -> Result<User, Refusal> {
        let user_id = || user_id.clone();
        match self {
            Self::User(user) => Ok(user),
            Self::NotFound => Err(Refusal::UserNotFound { user_id: user_id() }),
            Self::Deleted => Err(Refusal::UserDeleted { user_id: user_id() }),
            Self::EtagMismatch => Err(Refusal::EtagMismatch { user_id: user_id() }),
            Self::UsernameTaken(username) => Err(Refusal::UsernameTaken { username }),
        }
    }
}
