//! The table of refusals and errors: the reason of each, with its metadata and details. No catch-all arm: a new refusal or
//! error does not compile until its row is chosen. The proto explains the reasons; `service_kit::reason` has their codes.

use std::time::Duration;

use service_kit::{
    backoff::jittered,
    failure::{Failure, Reason},
};

use crate::{domain::Refusal, storage::Error};

/// The type of resource in `google.rpc.ResourceInfo`.
const USER: &str = "parlance.user.v1.User";

/// Lookups are short: a full queue is usually empty by then.
const OVERLOAD_DELAY: Duration = Duration::from_millis(200);
/// The maximum delay before a client whose stream was ended reconnects.
const MAX_RETURN_DELAY: Duration = Duration::from_secs(1);

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let text = refusal.to_string();
        let refuse = |reason| Self::of(reason, text);
        match refusal {
            Refusal::UserNotFound { user_id } => {
                let id = user_id.as_str();
                refuse(Reason::UserNotFound).with("user_ids", id).resource(USER, id)
            }
            Refusal::UsernameNotFound { username } => {
                let name = username.as_str();
                refuse(Reason::UserNotFound).with("username", name).resource(USER, name)
            }
            Refusal::NotTheSameUser { user_id, username } => {
                let (id, name) = (user_id.as_str(), username.as_str());
                refuse(Reason::UserNotFound).with("user_ids", id).with("username", name).resource(USER, id)
            }
            Refusal::UserDeactivated { user_id } => {
                let id = user_id.as_str();
                refuse(Reason::UserDeactivated).with("user_ids", id).precondition(id, "the user must be active")
            }
            Refusal::UserDeleted { user_id } => {
                let id = user_id.as_str();
                refuse(Reason::UserDeleted)
                    .with("user_ids", id)
                    .precondition(id, "the user must not be deleted, and deletion is final")
            }
            Refusal::UserIdTaken { user_id } => {
                let id = user_id.as_str();
                refuse(Reason::UserIdTaken).with("user_id", id).resource(USER, id)
            }
            Refusal::UsernameTaken { username } => {
                let name = username.as_str();
                refuse(Reason::UsernameTaken).with("username", name).resource(USER, name)
            }
            Refusal::RequestIdReused { request_id } => refuse(Reason::RequestIdReused)
                .with("request_id", request_id.as_str())
                .violating("request_id", "must be a new one for new content"),
            Refusal::EtagMismatch { user_id } => refuse(Reason::EtagMismatch).with("user_id", user_id.as_str()),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::NotReady => Self::not_ready(),
            Error::Overloaded => Self::overloaded("too many lookups at a time", "lookups", "lookups waiting at a time")
                .retry_after(OVERLOAD_DELAY),
            Error::Database(cause) => cause.into(),
        }
    }
}

/// Maps the error of a write. `is_repeatable`: the same call again stores nothing twice.
pub(super) fn of_write(error: Error, is_repeatable: bool) -> Failure {
    match error {
        Error::Database(cause) => cause.into_failure_of_write(is_repeatable),
        Error::NotReady | Error::Overloaded => error.into(),
    }
}

/// Ends a stream because its connection is closing. Jittered, so that clients do not all reconnect at once.
pub(super) fn draining() -> Failure {
    Failure::draining().retry_after(jittered(MAX_RETURN_DELAY, 0.0..1.0))
}

#[cfg(test)]
mod tests {
    use tonic::{Code, Status};
    use tonic_types::{ErrorDetails, StatusExt};

    use super::*;
    use crate::storage::samples;

    fn sent(failure: Failure) -> (Code, String, ErrorDetails, String) {
        let status = Status::from(failure);
        let details = status.get_error_details();
        let reason = details.error_info().unwrap().reason.clone();
        (status.code(), reason, details, status.message().to_owned())
    }

    #[test]
    fn a_failure_that_a_retry_may_cure_carries_a_delay() {
        let unavailable = samples::unavailable().map(|error| (error, Code::Unavailable, "DATABASE_UNAVAILABLE"));
        let conflict = samples::lost_races().map(|error| (error, Code::Aborted, "CONFLICT"));
        let overloaded = [(Error::Overloaded, Code::ResourceExhausted, "OVERLOADED")];
        for (error, code, reason) in unavailable.into_iter().chain(conflict).chain(overloaded) {
            let (sent_code, sent_reason, details, _) = sent(error.into());
            assert_eq!((sent_code, &*sent_reason), (code, reason));
            assert!(details.retry_info().is_some_and(|info| info.retry_delay.is_some()), "{reason}");
            assert_eq!(details.quota_failure().is_some(), reason == "OVERLOADED");
        }
    }

    #[test]
    fn an_unknown_outcome_carries_no_advice_to_retry() {
        let (code, reason, details, _) = sent(of_write(samples::write_without_an_answer(), false));
        assert_eq!((code, &*reason), (Code::Unknown, "OUTCOME_UNKNOWN"));
        assert!(details.retry_info().is_none());
    }

    #[test]
    fn a_repeatable_write_carries_advice_to_retry() {
        let (code, reason, details, _) = sent(of_write(samples::write_without_an_answer(), true));
        assert_eq!((code, &*reason), (Code::Unavailable, "DATABASE_UNAVAILABLE"));
        assert!(details.retry_info().is_some());
    }

    #[test]
    fn a_write_that_was_never_sent_is_unavailable() {
        let (code, reason, ..) = sent(of_write(samples::write_never_sent(), false));
        assert_eq!((code, &*reason), (Code::Unavailable, "DATABASE_UNAVAILABLE"));
    }

    #[test]
    fn internal_errors_are_not_explained() {
        for error in samples::internal_errors() {
            let (code, reason, _, message) = sent(error.into());
            assert_eq!((code, &*reason, &*message), (Code::Internal, "INTERNAL", "internal error"));
        }
    }
}
