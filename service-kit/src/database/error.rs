//! Errors of database calls, classified by their meaning for the caller rather than by their origin.

use std::{io, sync::Arc, time::Duration};

use crate::failure::{Failure, Reason};

/// A database call that failed. A missing row is not an error.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A unique or check constraint is violated.
    #[error("constraint {constraint} is violated")]
    Conflict {
        /// The constraint's name.
        constraint: String,
        /// The error of the driver.
        source: sqlx::Error,
    },
    /// A serialization failure or a deadlock with another transaction.
    #[error("the transaction lost against another")]
    Serialization(#[source] sqlx::Error),
    /// A lock was not granted in time.
    #[error("a lock was not granted in time")]
    LockTimeout(#[source] sqlx::Error),
    /// The values sent cannot be stored: SQLSTATE class 22, 23 or 54.
    #[error("the data was refused")]
    Data(#[source] sqlx::Error),
    /// No connection could be opened. Nothing was sent.
    #[error("the database cannot be reached")]
    NotConnected(#[source] sqlx::Error),
    /// The connection broke, or the server cannot serve. What was sent may or may not have happened.
    #[error("the database went away")]
    Unavailable(#[source] sqlx::Error),
    /// No answer in time. What was sent may or may not have happened.
    #[error("the database did not answer within {limit:?}")]
    Timeout {
        /// The timeout.
        limit: Duration,
    },
    /// A row that this code cannot have written.
    #[error("corrupt data: {0}")]
    Corrupt(String),
    /// Any other error: a bug.
    #[error("the database refused the statement")]
    Driver(#[source] sqlx::Error),
}

impl Error {
    /// The label for metrics, one for each variant.
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

    /// Converts an error of connecting, or of preparing a session: nothing of the caller's was sent yet. A refused password or
    /// a statement that is refused on a new session, too, is an outage: passwords, roles and rules of the server change while
    /// the process runs, and are put right without it.
    pub fn of_connecting(error: impl Into<Self>) -> Self {
        Self::NotConnected(match error.into() {
            // Not the driver's error of a full pool: that would mislead the operator.
            Self::Timeout { limit } => {
                let text = format!(
                    "no session within {limit:?}: the server is busy, packets are lost, or the port is not PostgreSQL's"
                );
                io::Error::new(io::ErrorKind::TimedOut, text).into()
            }
            Self::Corrupt(text) => sqlx::Error::Protocol(text),
            Self::Conflict { source, .. }
            | Self::Serialization(source)
            | Self::LockTimeout(source)
            | Self::Data(source)
            | Self::NotConnected(source)
            | Self::Unavailable(source)
            | Self::Driver(source) => source,
        })
    }

    /// True if the session must not be used again: its connection broke, or leads to a server that ends its sessions or
    /// accepts no writes.
    pub(super) fn ends_session(&self) -> bool {
        match self {
            Self::Unavailable(sqlx::Error::Database(error)) => is_end_state(&error.code().unwrap_or_default()),
            Self::NotConnected(_) | Self::Unavailable(_) | Self::Timeout { .. } => true,
            _ => false,
        }
    }

    /// True when the same call may succeed once the database is back.
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::NotConnected(_) | Self::Unavailable(_) | Self::Timeout { .. })
    }

    /// True if the server does not offer TLS, or its certificate is not accepted, although the settings ask for it.
    pub(super) fn is_untrusted(&self) -> bool {
        let Self::NotConnected(error) = self else { return false };
        match error {
            sqlx::Error::Tls(_) => true,
            // The driver reads and writes through the TLS session, so its errors come as errors of the connection.
            sqlx::Error::Io(error) => matches!(tls_error(error), Some(rustls::Error::InvalidCertificate(_))),
            _ => false,
        }
    }

    /// True when the transaction lost against another: nothing of it was stored.
    pub fn is_lost_race(&self) -> bool {
        matches!(self, Self::Serialization(_) | Self::LockTimeout(_))
    }

    /// True when the call may have taken effect although it failed.
    pub fn outcome_is_unknown(&self) -> bool {
        match self {
            // The server reports that it did not commit, unless it is ending the session: that may come after the commit, in
            // place of its answer.
            Self::Unavailable(sqlx::Error::Database(error)) => {
                let state = error.code().unwrap_or_default();
                state.starts_with("08") || matches!(&*state, "57P01" | "57P02" | "57P04" | "57P05" | "25P04")
            }
            Self::Unavailable(_) | Self::Timeout { .. } => true,
            _ => false,
        }
    }
}

impl Error {
    /// Maps the error of a write. A write whose outcome is unknown is `OUTCOME_UNKNOWN`, unless it `is_repeatable`: the
    /// same call again stores nothing twice.
    pub fn into_failure_of_write(self: Arc<Self>, is_repeatable: bool) -> Failure {
        if self.outcome_is_unknown() && !is_repeatable {
            Failure::outcome_unknown().caused_by(self)
        } else {
            self.into()
        }
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            _ if is_outage(&error) => Self::Unavailable(error),
            sqlx::Error::Database(database) => {
                let state = database.code().unwrap_or_default().into_owned();
                let constraint = database.constraint().map(str::to_owned);
                from_sqlstate(&state, constraint, error)
            }
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => Self::Corrupt(error.to_string()),
            _ => Self::Driver(error),
        }
    }
}

/// True if the connection broke, or the server cannot serve.
pub(super) fn is_outage(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(database) => is_outage_state(&database.code().unwrap_or_default()),
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        _ => false,
    }
}

/// True if a server that refused a new connection may accept one soon: it is starting, or has no room.
pub(super) fn may_accept_soon(error: &Error) -> bool {
    let Error::NotConnected(error) = error else { return false };
    match error {
        sqlx::Error::Io(error) => error.kind() == std::io::ErrorKind::ConnectionRefused,
        sqlx::Error::Database(error) => error.is_transient_in_connect_phase(),
        _ => false,
    }
}

/// True if the server opens no session with these settings: it knows no such role, database or option, or the password is
/// wrong, or a right is missing.
pub(super) fn is_refusal(error: &sqlx::Error) -> bool {
    let state = error.as_database_error().and_then(sqlx::error::DatabaseError::code).unwrap_or_default();
    // Data exceptions, as of the value of an option; authorizations; access rules and names; invalid_catalog_name.
    ["22", "28", "42"].iter().any(|class| state.starts_with(class)) || state == "3D000"
}

/// True if what answers a new connection speaks another protocol, or one that the driver does not know.
pub(super) fn is_foreign(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Protocol(_) => true,
        sqlx::Error::Io(error) => matches!(tls_error(error), Some(rustls::Error::InvalidMessage(_))),
        _ => false,
    }
}

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

fn is_outage_state(state: &str) -> bool {
    // query_canceled by statement_timeout: rolled back, but the call ran out of its time.
    // object_not_in_prerequisite_state: a parallel worker was lost or did not start, or the server is in recovery.
    // invalid_sql_statement_name: another session than the one that prepared it.
    matches!(state, "57014" | "55000" | "26000")
        || is_end_state(state)
        // Resources such as too_many_connections; errors of the system.
        || ["53", "58"].iter().any(|class| state.starts_with(class))
}

/// True if the server has ended the session, or every later statement in it would fail, too.
fn is_end_state(state: &str) -> bool {
    // read_only_sql_transaction (a standby after a failover), in_failed_sql_transaction,
    // idle_in_transaction_session_timeout, transaction_timeout, invalid_sql_statement_name.
    matches!(state, "25006" | "25P02" | "25P03" | "25P04" | "26000")
        // Connections; admin_shutdown, crash_shutdown, cannot_connect_now, database_dropped, idle_session_timeout.
        || state.starts_with("08")
        || state.starts_with("57P")
}

fn from_sqlstate(state: &str, constraint: Option<String>, source: sqlx::Error) -> Error {
    match state {
        "40001" | "40P01" => Error::Serialization(source),
        "55P03" => Error::LockTimeout(source),
        _ if state.starts_with("23") && constraint.is_some() => {
            Error::Conflict { constraint: constraint.unwrap_or_default(), source }
        }
        _ if state.starts_with("22") || state.starts_with("23") || state.starts_with("54") => Error::Data(source),
        _ => Error::Driver(source),
    }
}

/// The one mapping of database errors to responses, without the cause. A write that cannot be repeated safely needs
/// [`Error::into_failure_of_write`] instead.
impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        match error {
            Error::NotConnected(_) | Error::Unavailable(_) | Error::Timeout { .. } => Self::database_unavailable(),
            Error::Serialization(_) | Error::LockTimeout(_) => {
                Self::of(Reason::Conflict, "lost a race against other changes")
            }
            // Bounds are checked before anything is stored, and constraints that callers can violate are refusals.
            Error::Conflict { .. } | Error::Data(_) | Error::Corrupt(_) | Error::Driver(_) => {
                Self::of(Reason::Internal, "internal error")
            }
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::from(&error).caused_by(error)
    }
}

/// For an error that several calls share.
impl From<Arc<Error>> for Failure {
    fn from(error: Arc<Error>) -> Self {
        Self::from(&*error).caused_by(error)
    }
}

#[cfg(test)]
mod tests {
    use std::{borrow::Cow, error::Error as StdError, fmt};

    use sqlx::error::{DatabaseError, ErrorKind};
    use tonic::{Code, Status};
    use tonic_types::StatusExt;

    use super::*;

    /// An error of the server with this SQLSTATE.
    #[derive(Debug)]
    struct Refused(&'static str);

    impl fmt::Display for Refused {
        fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str(self.0)
        }
    }

    impl StdError for Refused {}

    impl DatabaseError for Refused {
        fn message(&self) -> &str {
            self.0
        }

        fn code(&self) -> Option<Cow<'_, str>> {
            Some(self.0.into())
        }

        fn as_error(&self) -> &(dyn StdError + Send + Sync + 'static) {
            self
        }

        fn as_error_mut(&mut self) -> &mut (dyn StdError + Send + Sync + 'static) {
            self
        }

        fn into_error(self: Box<Self>) -> Box<dyn StdError + Send + Sync + 'static> {
            self
        }

        fn kind(&self) -> ErrorKind {
            ErrorKind::Other
        }
    }

    fn of_state(state: &'static str) -> Error {
        sqlx::Error::Database(Box::new(Refused(state))).into()
    }

    fn assert_unavailable(error: Error) {
        let text = format!("{error:?}");
        let status = Status::from(Failure::from(error));
        let reason = status.get_details_error_info().unwrap().reason;
        assert_eq!((status.code(), &*reason), (Code::Unavailable, "DATABASE_UNAVAILABLE"), "{text}");
        assert!(status.get_details_retry_info().is_some(), "{text}");
    }

    #[test]
    fn whatever_a_server_that_ends_says_is_unavailable() {
        let ended = ["08006", "25006", "25P02", "25P03", "25P04", "26000", "57P01", "57P02", "57P03", "57P04", "57P05"];
        for state in ended {
            assert!(of_state(state).ends_session(), "{state}");
            assert_unavailable(of_state(state));
        }
        for state in ["53100", "53200", "53300", "55000", "57014", "58030", "58P01"] {
            assert!(!of_state(state).ends_session(), "{state}");
            assert_unavailable(of_state(state));
        }
    }

    #[test]
    fn whatever_the_driver_says_of_a_broken_connection_is_unavailable() {
        let of_driver = [
            sqlx::Error::Io(std::io::ErrorKind::UnexpectedEof.into()),
            sqlx::Error::Protocol("unexpected message".to_owned()),
            sqlx::Error::WorkerCrashed,
            sqlx::Error::PoolClosed,
            sqlx::Error::PoolTimedOut,
            sqlx::Error::Tls("close_notify".into()),
        ];
        of_driver.into_iter().map(Error::from).for_each(assert_unavailable);
    }

    #[test]
    fn only_an_end_in_place_of_an_answer_leaves_the_outcome_unknown() {
        for state in ["08006", "57P01", "57P02", "57P04", "57P05", "25P04"] {
            assert!(of_state(state).outcome_is_unknown(), "{state}");
        }
        for state in ["25006", "25P02", "25P03", "26000", "53300", "55000", "57014", "57P03", "58030"] {
            assert!(!of_state(state).outcome_is_unknown(), "{state}");
        }
    }

    #[test]
    fn a_bug_stays_internal() {
        for state in ["22000", "42601", "42883", "XX000", "XX001"] {
            assert_eq!(Failure::from(of_state(state)).code(), Code::Internal, "{state}");
        }
    }
}
