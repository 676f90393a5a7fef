//! The business no: what a caller asked for and cannot have. Which code and reason each has on the wire is said in
//! `grpc/status.rs`.

use super::{RequestId, UserId, Username};

/// Why a request is refused although nothing broke.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// No user has this id.
    #[error("there is no user {user_id}")]
    UserNotFound { user_id: UserId },
    /// No user has this name, regardless of case.
    #[error("there is no user named {}", username.as_str())]
    UsernameNotFound { username: Username },
    /// Id and name are not those of one user.
    #[error("there is no user {user_id} named {}", username.as_str())]
    NotTheSameUser { user_id: UserId, username: Username },
    /// A tombstone stays as it is.
    #[error("user {user_id} was deleted")]
    UserDeleted { user_id: UserId },
    /// The id belongs, or once belonged, to another user.
    #[error("user id {user_id} is taken")]
    UserIdTaken { user_id: UserId },
    /// The name belongs to another user, regardless of case.
    #[error("username {} is taken", username.as_str())]
    UsernameTaken { username: Username },
    /// The request id was used before, for something else.
    #[error("request_id {} was used before with other content", request_id.as_str())]
    RequestIdReused { request_id: RequestId },
    /// The user has changed since the caller looked.
    #[error("user {user_id} has changed since it was read")]
    EtagMismatch { user_id: UserId },
}
