//! Helpers for errors: they read the details for programs, never the message for people.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt;

/// Returns code and reason of an error; every error has both, and the details that its code calls for.
pub fn code_and_reason(status: &Status) -> (Code, String) {
    let details = status.get_error_details();
    let info = details.error_info().cloned().unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
    assert_eq!(info.domain, "parlance", "{status:?}");
    let has_details = match status.code() {
        // What cannot be read has no fields.
        Code::InvalidArgument => details.bad_request().is_some() || info.reason == "MALFORMED_REQUEST",
        Code::FailedPrecondition => details.precondition_failure().is_some(),
        Code::ResourceExhausted => details.quota_failure().is_some(),
        Code::NotFound | Code::AlreadyExists => details.resource_info().is_some(),
        Code::Unavailable => details.retry_info().is_some(),
        _ => true,
    };
    assert!(has_details, "{status:?}");
    (status.code(), info.reason)
}

/// Returns the error of a call that must fail with this code and reason.
pub fn refused<T>(answer: Result<T, Status>, code: Code, reason: &str) -> Status {
    let Err(status) = answer else { panic!("succeeded in place of {code:?} {reason}") };
    assert_eq!(code_and_reason(&status), (code, reason.to_owned()), "{}", status.message());
    status
}

/// Returns one value of the metadata, empty when absent.
pub fn metadata(status: &Status, key: &str) -> String {
    status.get_details_error_info().unwrap().metadata.get(key).cloned().unwrap_or_default()
}

/// Returns the fields of `google.rpc.BadRequest`, in order.
pub fn violated_fields(status: &Status) -> Vec<String> {
    let bad = status.get_details_bad_request().unwrap_or_else(|| panic!("no BadRequest in {status:?}"));
    bad.field_violations.into_iter().map(|violation| violation.field).collect()
}

/// Returns kind and name of `google.rpc.ResourceInfo`.
pub fn resource(status: &Status) -> (String, String) {
    let info = status.get_details_resource_info().unwrap_or_else(|| panic!("no ResourceInfo in {status:?}"));
    (info.resource_type, info.resource_name)
}

/// Returns the subjects of `google.rpc.PreconditionFailure`.
pub fn preconditions(status: &Status) -> Vec<String> {
    let failure =
        status.get_details_precondition_failure().unwrap_or_else(|| panic!("no PreconditionFailure in {status:?}"));
    failure.violations.into_iter().map(|violation| violation.subject).collect()
}

/// Returns the delay of `google.rpc.RetryInfo`, if present.
pub fn retry_delay(status: &Status) -> Option<Duration> {
    status.get_details_retry_info().and_then(|info| info.retry_delay)
}
