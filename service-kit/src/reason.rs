//! The table of error reasons: the name, the gRPC code and the usual retry delay of each.
//!
//! Reasons are part of the contract and documented in `parlance/error/v1/error_reason.proto`. The matches below have no
//! catch-all arm, so a new reason does not compile until its row is chosen.

use std::time::Duration;

pub use parlance::error::v1::ErrorReason as Reason;
use tonic::Code;

/// A database, or a service, that went away is usually back within seconds.
const OUTAGE_DELAY: Duration = Duration::from_secs(1);
/// An identity provider takes longer to come back, and is asked once in a while only.
const KEYS_DELAY: Duration = Duration::from_secs(5);
/// A full queue is usually empty by then.
const OVERLOAD_DELAY: Duration = Duration::from_millis(500);
/// The transaction that won has usually committed by then.
const CONFLICT_DELAY: Duration = Duration::from_millis(100);
/// Another replica, or the successor of this one, answers at once.
const DRAIN_DELAY: Duration = Duration::from_millis(100);

/// Returns the reason as it is sent: without the prefix of the enum.
pub fn name(reason: Reason) -> &'static str {
    let name = reason.as_str_name();
    name.strip_prefix("ERROR_REASON_").unwrap_or(name)
}

/// Returns the gRPC code that always goes with the reason.
pub fn code(reason: Reason) -> Code {
    match reason {
        Reason::InvalidArgument | Reason::RequestIdReused | Reason::PageTokenInvalid | Reason::MalformedRequest => {
            Code::InvalidArgument
        }
        Reason::UserNotFound | Reason::ConversationNotFound | Reason::MemberNotFound | Reason::MessageNotFound => {
            Code::NotFound
        }
        Reason::UserIdTaken | Reason::UsernameTaken | Reason::ConversationIdTaken => Code::AlreadyExists,
        Reason::UserDeactivated
        | Reason::UserDeleted
        | Reason::ConversationIsDirect
        | Reason::LastOwner
        | Reason::SequenceAhead
        | Reason::MessageDeleted
        | Reason::SessionNotOpen
        | Reason::SessionOpen
        | Reason::NoSigningKey => Code::FailedPrecondition,
        Reason::NotAMember
        | Reason::RoleInsufficient
        | Reason::NotTheSender
        | Reason::HostNotAllowed
        | Reason::OriginNotAllowed
        | Reason::CallerNotAllowed => Code::PermissionDenied,
        Reason::EtagMismatch | Reason::Conflict => Code::Aborted,
        Reason::TokenMissing
        | Reason::TokenInvalid
        | Reason::TokenExpired
        | Reason::TokenNotYetValid
        | Reason::TokenRevoked => Code::Unauthenticated,
        Reason::DatabaseUnavailable
        | Reason::UserServiceUnavailable
        | Reason::KeysUnavailable
        | Reason::Draining
        | Reason::ConversationBusy => Code::Unavailable,
        Reason::Overloaded
        | Reason::RequestTooLarge
        | Reason::RateLimited
        | Reason::QuotaExceeded
        | Reason::TooManyStreams => Code::ResourceExhausted,
        Reason::OutcomeUnknown | Reason::Unspecified => Code::Unknown,
        Reason::DeadlineExceeded => Code::DeadlineExceeded,
        Reason::Cancelled => Code::Cancelled,
        Reason::Unimplemented => Code::Unimplemented,
        Reason::Internal => Code::Internal,
    }
}

/// Returns the usual retry delay, for reasons after which the same call may succeed later.
pub fn retry_delay(reason: Reason) -> Option<Duration> {
    match reason {
        Reason::DatabaseUnavailable | Reason::UserServiceUnavailable | Reason::ConversationBusy => Some(OUTAGE_DELAY),
        Reason::KeysUnavailable => Some(KEYS_DELAY),
        // A limit of rate says itself how long to wait.
        Reason::Overloaded | Reason::RateLimited | Reason::TooManyStreams => Some(OVERLOAD_DELAY),
        Reason::Conflict => Some(CONFLICT_DELAY),
        Reason::Draining => Some(DRAIN_DELAY),
        Reason::Unspecified
        | Reason::InvalidArgument
        | Reason::RequestIdReused
        | Reason::PageTokenInvalid
        | Reason::MalformedRequest
        | Reason::UserNotFound
        | Reason::UserDeactivated
        | Reason::UserDeleted
        | Reason::UserIdTaken
        | Reason::UsernameTaken
        | Reason::ConversationNotFound
        | Reason::ConversationIdTaken
        | Reason::ConversationIsDirect
        | Reason::NotAMember
        | Reason::MemberNotFound
        | Reason::RoleInsufficient
        | Reason::LastOwner
        | Reason::SequenceAhead
        | Reason::MessageNotFound
        | Reason::MessageDeleted
        | Reason::NotTheSender
        | Reason::SessionNotOpen
        | Reason::SessionOpen
        | Reason::EtagMismatch
        | Reason::RequestTooLarge
        | Reason::OutcomeUnknown
        | Reason::DeadlineExceeded
        | Reason::Cancelled
        | Reason::Unimplemented
        | Reason::Internal
        | Reason::HostNotAllowed
        | Reason::OriginNotAllowed
        | Reason::CallerNotAllowed
        | Reason::TokenMissing
        | Reason::TokenInvalid
        | Reason::TokenExpired
        | Reason::TokenNotYetValid
        | Reason::TokenRevoked
        | Reason::QuotaExceeded
        | Reason::NoSigningKey => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_no_prefix() {
        assert_eq!(name(Reason::PageTokenInvalid), "PAGE_TOKEN_INVALID");
    }

    #[test]
    fn only_codes_that_allow_a_retry_have_a_delay() {
        for reason in (0..100).filter_map(|number| Reason::try_from(number).ok()) {
            let may_retry = matches!(code(reason), Code::Unavailable | Code::Aborted | Code::ResourceExhausted);
            assert!(may_retry || retry_delay(reason).is_none(), "{reason:?}");
        }
    }
}
