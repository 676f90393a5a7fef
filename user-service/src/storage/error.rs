//! Why a call of the storage did not give what was asked for: a refusal, or something that broke.

use std::sync::Arc;

use service_kit::database;

use crate::domain::Refusal;

/// A storage call that failed. A missing row is `None` where the caller only looked.
///
/// Cheap to clone, since one failed query may answer many lookups.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Error {
    /// The rules say no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Not migrated yet, or already closed.
    #[error("the storage is not open")]
    NotReady,
    /// Too many lookups are waiting.
    #[error("the queue of lookups is full")]
    Overloaded,
    /// A write was sent, its answer was lost, and a repeat could not be recognised.
    #[error("the outcome of a write is unknown")]
    OutcomeUnknown(#[source] Arc<database::Error>),
    /// The database call failed.
    #[error(transparent)]
    Database(Arc<database::Error>),
}

impl From<database::Error> for Error {
    fn from(error: database::Error) -> Self {
        Self::Database(Arc::new(error))
    }
}

impl Error {
    /// For a write that cannot be repeated: when it was sent and its answer was lost, that is what the caller must know.
    pub(super) fn of_unrepeatable_write(error: database::Error) -> Self {
        if error.outcome_is_unknown() { Self::OutcomeUnknown(Arc::new(error)) } else { error.into() }
    }
}

/// One of each kind, for tests of what callers are told about them.
#[cfg(test)]
pub(crate) mod samples {
    use std::time::Duration;

    use service_kit::database::Error as Cause;
    use sqlx::Error as Driver;

    use super::Error;

    pub(crate) fn unavailable() -> [Error; 3] {
        let limit = Duration::from_secs(1);
        [Error::NotReady, Cause::Timeout { limit }.into(), Cause::NotConnected(Driver::PoolTimedOut).into()]
    }

    pub(crate) fn lost_races() -> [Error; 2] {
        [Cause::Serialization(Driver::RowNotFound).into(), Cause::LockTimeout(Driver::RowNotFound).into()]
    }

    pub(crate) fn unrepeatable_write_without_an_answer() -> Error {
        Error::of_unrepeatable_write(Cause::Timeout { limit: Duration::from_secs(1) })
    }

    pub(crate) fn unrepeatable_write_never_sent() -> Error {
        Error::of_unrepeatable_write(Cause::NotConnected(Driver::PoolTimedOut))
    }

    /// Each with the word "secret" in it.
    pub(crate) fn faults_of_ours() -> [Error; 4] {
        let secret = || Driver::Protocol("secret".to_owned());
        [
            Cause::Corrupt("users.secret".to_owned()).into(),
            Cause::Conflict { constraint: "users_secret_check".to_owned(), source: secret() }.into(),
            Cause::Data(secret()).into(),
            Cause::Driver(secret()).into(),
        ]
    }
}
