//! Interprets the statuses of calls and frames. Decides by code and reason, never by the message.

use std::time::Duration;

use prost::Message;
use tonic::{Code, Status};
use tonic_types::{StatusExt, pb};

/// Converts the status of a nack or a closed conversation to the status that a call would have returned.
pub(crate) fn from_proto(status: Option<pb::Status>) -> Status {
    let Some(status) = status else { return Status::new(Code::Unknown, "no reason was given") };
    let details = status.encode_to_vec();
    Status::with_details(status.code.into(), status.message, details.into())
}

/// Converts the status of a call to the one that a nack carries.
pub(crate) fn to_proto(status: &Status) -> pb::Status {
    let encoded = pb::Status::decode(status.details()).ok().filter(|_| !status.details().is_empty());
    encoded.unwrap_or_else(|| pb::Status {
        code: status.code() as i32,
        message: status.message().to_owned(),
        details: Vec::new(),
    })
}

pub(crate) fn gap(conversation_id: &str, sequence: i64) -> Status {
    Status::data_loss(format!("an entry before {sequence} of {conversation_id} is missing"))
}

pub(crate) fn stream_ended() -> Status {
    Status::unavailable("the stream has ended")
}

pub(crate) fn retry_delay(status: &Status) -> Option<Duration> {
    status.get_details_retry_info().and_then(|info| info.retry_delay)
}

/// Returns true if reconnecting would fail in the same way.
pub(crate) fn is_fatal(status: &Status) -> bool {
    match status.code() {
        Code::InvalidArgument | Code::Unauthenticated | Code::PermissionDenied | Code::Unimplemented => true,
        Code::FailedPrecondition => matches!(&*reason(status), "USER_DEACTIVATED" | "USER_DELETED"),
        Code::NotFound => reason(status) == "USER_NOT_FOUND",
        _ => false,
    }
}

/// Returns true if a frame was not executed, or its outcome is unknown: with the same `request_id` it can be sent again.
pub(crate) fn is_retryable(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable | Code::Aborted | Code::DeadlineExceeded | Code::Cancelled => true,
        Code::ResourceExhausted => reason(status) == "OVERLOADED",
        // Without a reason the error is from a broken connection, not from the service.
        Code::Unknown | Code::Internal => reason(status).is_empty(),
        _ => false,
    }
}

fn reason(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}
