//! What can go wrong with a database call, by what it means for the caller rather than by where it came from.

use std::time::Duration;

use tonic::Code;

use crate::failure::{Failure, reason};

/// A database call that failed. A missing row is no error.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A unique or check constraint said no.
    #[error("constraint {constraint} is violated")]
    Conflict {
        /// The constraint's name.
        constraint: String,
        /// What the driver said.
        source: sqlx::Error,
    },
    /// Lost against other transactions: serialization failure or deadlock.
    #[error("the transaction lost against another")]
    Serialization(#[source] sqlx::Error),
    /// A lock was not granted in time.
    #[error("a lock was not granted in time")]
    LockTimeout(#[source] sqlx::Error),
    /// The values sent cannot be stored: SQLSTATE class 22, 23 or 54.
    #[error("the data was refused")]
    Data(#[source] sqlx::Error),
    /// No connection was to be had. Nothing was sent.
    #[error("the database cannot be reached")]
    NotConnected(#[source] sqlx::Error),
    /// The connection broke, or the server cannot serve. What was sent may or may not have happened.
    #[error("the database went away")]
    Unavailable(#[source] sqlx::Error),
    /// No answer in time. What was sent may or may not have happened.
    #[error("the database did not answer within {limit:?}")]
    Timeout {
        /// How long was waited.
        limit: Duration,
    },
    /// A row that the code cannot have written.
    #[error("corrupt data: {0}")]
    Corrupt(String),
    /// Anything else: our bug.
    #[error("the database refused the statement")]
    Driver(#[source] sqlx::Error),
}

impl Error {
    /// A word for metrics: one for each variant.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Conflict { .. } => "conflict",
            Self::Serialization(_) => "serialization",
            Self::LockTimeout(_) => "lock_timeout",
            Self::Data(_) => "data",
            Self::NotConnected(_) => "not_connected",
            Self::Unavailable(_) => "unavailable",
            Self::Timeout { .. } => Self::TIMEOUT,
            Self::Corrupt(_) => "corrupt",
            Self::Driver(_) => "driver",
        }
    }

    pub(super) const TIMEOUT: &'static str = "timeout";

    /// Of an attempt to get a connection: whatever failed, nothing was sent yet.
    pub(super) fn of_connecting(error: impl Into<Self>) -> Self {
        match error.into() {
            Self::Unavailable(source) => Self::NotConnected(source),
            Self::Timeout { .. } => Self::NotConnected(sqlx::Error::PoolTimedOut),
            other => other,
        }
    }

    /// True when the same call may succeed once the database is there again.
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::NotConnected(_) | Self::Unavailable(_) | Self::Timeout { .. })
    }

    /// True when the call may have taken effect although it failed.
    pub fn outcome_is_unknown(&self) -> bool {
        match self {
            // The server says itself that it did not do it, unless it is ending the session: that may come after the
            // commit, in place of its answer.
            Self::Unavailable(sqlx::Error::Database(error)) => {
                let state = error.code().unwrap_or_default();
                state.starts_with("08") || matches!(&*state, "57P01" | "57P02" | "57P05")
            }
            Self::Unavailable(_) | Self::Timeout { .. } => true,
            _ => false,
        }
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(database) => {
                let state = database.code().unwrap_or_default().into_owned();
                let constraint = database.constraint().map(str::to_owned);
                from_sqlstate(&state, constraint, error)
            }
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => Self::Unavailable(error),
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => Self::Corrupt(error.to_string()),
            _ => Self::Driver(error),
        }
    }
}

fn from_sqlstate(state: &str, constraint: Option<String>, source: sqlx::Error) -> Error {
    match state {
        "40001" | "40P01" => Error::Serialization(source),
        "55P03" => Error::LockTimeout(source),
        // query_canceled by statement_timeout: rolled back, but the call ran out of its time.
        // admin_shutdown, crash_shutdown, cannot_connect_now, idle_session_timeout; too_many_connections and its class;
        // read_only_sql_transaction (a standby after a failover).
        "57014" | "57P01" | "57P02" | "57P03" | "57P05" | "25006" => Error::Unavailable(source),
        _ if state.starts_with("08") || state.starts_with("53") || state.starts_with("58") => {
            Error::Unavailable(source)
        }
        _ if state.starts_with("23") && constraint.is_some() => {
            Error::Conflict { constraint: constraint.unwrap_or_default(), source }
        }
        _ if state.starts_with("22") || state.starts_with("23") || state.starts_with("54") => Error::Data(source),
        _ => Error::Driver(source),
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::NotConnected(_) | Error::Unavailable(_) | Error::Timeout { .. } => {
                Self::new(Code::Unavailable, reason::DATABASE_UNAVAILABLE, "the database is not available")
                    .retry_after(Duration::from_secs(1))
            }
            Error::Serialization(_) | Error::LockTimeout(_) => {
                Self::new(Code::Aborted, reason::CONFLICT, "lost a race against another change")
                    .retry_after(Duration::from_millis(100))
            }
            Error::Conflict { .. } | Error::Data(_) | Error::Corrupt(_) | Error::Driver(_) => {
                Self::new(Code::Internal, reason::INTERNAL, "internal error")
            }
        }
        .caused_by(error)
    }
}
