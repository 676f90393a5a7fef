//! The one table from what went wrong to what the caller is told: code, reason, metadata, details. No catch-all arm: a
//! new refusal or error does not compile until somebody chose its row. Reasons are explained in the proto.

use std::{sync::Arc, time::Duration};

use parlance::error::v1::ErrorReason;
use service_kit::{database, failure::Failure};
use tonic::Code;

use crate::{domain::Refusal, storage::Error};

/// The kind of resource that all of this is about, in `google.rpc.ResourceInfo`.
const USER: &str = "parlance.user.v1.User";

/// Lookups are short: a full queue is worked off in less.
const OVERLOAD_DELAY: Duration = Duration::from_millis(200);
/// A database that went away is back in seconds.
const OUTAGE_DELAY: Duration = Duration::from_secs(1);
/// Those who were faster are done in less.
const CONFLICT_DELAY: Duration = Duration::from_millis(100);
/// A client sent away comes back after a jittered time up to this.
const COME_BACK: Duration = Duration::from_secs(1);

/// The reason as it is sent: without the enum's prefix.
pub(super) fn reason(reason: ErrorReason) -> &'static str {
    let name = reason.as_str_name();
    name.strip_prefix("ERROR_REASON_").unwrap_or(name)
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        use ErrorReason as Reason;
        let text = refusal.to_string();
        let no = |code, why| Self::new(code, reason(why), text);
        match refusal {
            Refusal::UserNotFound { user_id } => {
                let id = user_id.as_str();
                no(Code::NotFound, Reason::UserNotFound).with("user_ids", id).resource(USER, id)
            }
            Refusal::UsernameNotFound { username } => {
                let name = username.as_str();
                no(Code::NotFound, Reason::UserNotFound).with("username", name).resource(USER, name)
            }
            Refusal::NotTheSameUser { user_id, username } => {
                let (id, name) = (user_id.as_str(), username.as_str());
                no(Code::NotFound, Reason::UserNotFound).with("user_ids", id).with("username", name).resource(USER, id)
            }
            Refusal::UserDeleted { user_id } => {
                let id = user_id.as_str();
                no(Code::FailedPrecondition, Reason::UserDeleted)
                    .with("user_ids", id)
                    .precondition(id, "the user must not be deleted, and deletion is final")
            }
            Refusal::UserIdTaken { user_id } => {
                let id = user_id.as_str();
                no(Code::AlreadyExists, Reason::UserIdTaken).with("user_id", id).resource(USER, id)
            }
            Refusal::UsernameTaken { username } => {
                let name = username.as_str();
                no(Code::AlreadyExists, Reason::UsernameTaken).with("username", name).resource(USER, name)
            }
            Refusal::RequestIdReused { request_id } => {
                no(Code::InvalidArgument, Reason::RequestIdReused).with("request_id", request_id.as_str())
            }
            Refusal::EtagMismatch { user_id } => {
                no(Code::Aborted, Reason::EtagMismatch).with("user_id", user_id.as_str())
            }
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Refused(refusal) => refusal.into(),
            Error::NotReady => unavailable("the service is not ready").caused_by(error),
            Error::Overloaded => {
                Self::new(Code::ResourceExhausted, reason(ErrorReason::Overloaded), "too many lookups at a time")
                    .quota("lookups", "lookups waiting at a time")
                    .retry_after(OVERLOAD_DELAY)
            }
            Error::OutcomeUnknown(cause) => Self::new(
                Code::Unknown,
                reason(ErrorReason::OutcomeUnknown),
                "the connection to the database broke and without a request_id a retry may store this twice; look first",
            )
            .caused_by(cause),
            Error::Database(cause) => of_database(cause),
        }
    }
}

fn of_database(cause: Arc<database::Error>) -> Failure {
    match *cause {
        database::Error::NotConnected(_) | database::Error::Unavailable(_) | database::Error::Timeout { .. } => {
            unavailable("the database is not available")
        }
        database::Error::Serialization(_) | database::Error::LockTimeout(_) => {
            Failure::new(Code::Aborted, reason(ErrorReason::Conflict), "lost a race against other changes")
                .retry_after(CONFLICT_DELAY)
        }
        // Bounds are checked before anything is stored, and the constraints that callers can meet are refusals.
        database::Error::Conflict { .. }
        | database::Error::Data(_)
        | database::Error::Corrupt(_)
        | database::Error::Driver(_) => Failure::new(Code::Internal, reason(ErrorReason::Internal), "internal error"),
    }
    .caused_by(cause)
}

/// Says to a stream that it ends because its connection is sent away. Jittered, so that a fleet does not come back at once.
pub(super) fn draining() -> Failure {
    Failure::new(Code::Unavailable, reason(ErrorReason::Draining), "the service is shutting down")
        .retry_after(COME_BACK.mul_f64(fastrand::f64()))
}

fn unavailable(message: &str) -> Failure {
    Failure::new(Code::Unavailable, reason(ErrorReason::DatabaseUnavailable), message).retry_after(OUTAGE_DELAY)
}

#[cfg(test)]
mod tests {
    use tonic::Status;
    use tonic_types::{ErrorDetails, StatusExt};

    use super::*;
    use crate::storage::samples;

    fn told(error: Error) -> (Code, String, ErrorDetails, String) {
        let status = Status::from(Failure::from(error));
        let details = status.get_error_details();
        let reason = details.error_info().unwrap().reason.clone();
        (status.code(), reason, details, status.message().to_owned())
    }

    #[test]
    fn what_a_retry_may_cure_comes_with_a_delay() {
        let unavailable = samples::unavailable().map(|error| (error, Code::Unavailable, "DATABASE_UNAVAILABLE"));
        let conflict = samples::lost_races().map(|error| (error, Code::Aborted, "CONFLICT"));
        let overloaded = [(Error::Overloaded, Code::ResourceExhausted, "OVERLOADED")];
        for (error, code, reason) in unavailable.into_iter().chain(conflict).chain(overloaded) {
            let (told_code, told_reason, details, _) = told(error);
            assert_eq!((told_code, &*told_reason), (code, reason));
            assert!(details.retry_info().is_some_and(|info| info.retry_delay.is_some()), "{reason}");
            assert_eq!(details.quota_failure().is_some(), reason == "OVERLOADED");
        }
    }

    #[test]
    fn an_unknown_outcome_comes_without_advice_to_retry() {
        let (code, reason, details, _) = told(samples::unrepeatable_write_without_an_answer());
        assert_eq!((code, &*reason), (Code::Unknown, "OUTCOME_UNKNOWN"));
        assert!(details.retry_info().is_none());
    }

    #[test]
    fn a_write_that_was_never_sent_is_known_not_to_have_happened() {
        let (code, reason, ..) = told(samples::unrepeatable_write_never_sent());
        assert_eq!((code, &*reason), (Code::Unavailable, "DATABASE_UNAVAILABLE"));
    }

    #[test]
    fn what_broke_inside_is_not_told() {
        for error in samples::faults_of_ours() {
            let (code, reason, _, message) = told(error);
            assert_eq!((code, &*reason, &*message), (Code::Internal, "INTERNAL", "internal error"));
        }
    }
}
