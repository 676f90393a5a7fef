//! Errors of storage calls.

use std::sync::Arc;

use service_kit::database;

/// A storage call that failed. A missing row is not an error.
///
/// Cheap to clone, since one failed query may answer many lookups.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Error {
    /// The database is not migrated yet, or closed already.
    #[error("the storage is not open")]
    NotReady,
    /// Too many lookups are waiting.
    #[error("the queue of lookups is full")]
    Overloaded,
    /// The database call failed.
    #[error(transparent)]
    Database(Arc<database::Error>),
}

impl From<database::Error> for Error {
    fn from(error: database::Error) -> Self {
        Self::Database(Arc::new(error))
    }
}

/// Errors of each kind, for tests of the responses.
#[cfg(test)]
pub(crate) mod samples {
    use std::time::Duration;

    use service_kit::database::Error as Cause;
    use sqlx::Error as Driver;

    use super::Error;

    pub(crate) fn unavailable() -> [Error; 3] {
        [Error::NotReady, write_without_an_answer(), write_never_sent()]
    }

    pub(crate) fn lost_races() -> [Error; 2] {
        [Cause::Serialization(Driver::RowNotFound).into(), Cause::LockTimeout(Driver::RowNotFound).into()]
    }

    pub(crate) fn write_without_an_answer() -> Error {
        Cause::Timeout { limit: Duration::from_secs(1) }.into()
    }

    pub(crate) fn write_never_sent() -> Error {
        Cause::NotConnected(Driver::PoolTimedOut).into()
    }

    /// Each with the word "secret" in it.
    pub(crate) fn internal_errors() -> [Error; 4] {
        let secret = || Driver::Protocol("secret".to_owned());
        [
            Cause::Corrupt("users.secret".to_owned()).into(),
            Cause::Conflict { constraint: "users_secret_check".to_owned(), source: secret() }.into(),
            Cause::Data(secret()).into(),
            Cause::Driver(secret()).into(),
        ]
    }
}
