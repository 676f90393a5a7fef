//! Adds an `ErrorInfo` and the code that a client expects to every error, and removes the texts of libraries, which reveal
//! internals.
//!
//! A status with details is a typed failure and is left alone. One without is from tonic, tonic-web, reflection or a bug.

use std::any::Any;

use http::{HeaderMap, Response};
use tokio::time::Instant;
use tonic::{Code, Status};

use super::deadline;
use crate::{
    failure::{Failure, Reason},
    lifecycle::panic_text,
};

/// The beginnings of the texts of tonic for requests that it cannot read. Their codes would blame the server.
const UNREADABLE: [&str; 8] = [
    "Missing request message",
    "Unexpected EOF decoding stream",
    "failed to decode Protobuf message",
    "protocol error: received message with",
    "Error decompressing",
    "tonic-web:",
    "h2 protocol error",
    "error reading a body from connection",
];

/// Returns the error in the head of a response, if there is one.
pub(super) fn of_head<B>(response: &Response<B>) -> Option<Status> {
    // Status::into_http leaves the original here, whose source the headers have lost.
    let original = response.extensions().get::<Status>().cloned();
    original.filter(|status| status.code() != Code::Ok).or_else(|| of_trailers(response.headers()))
}

/// Returns the error in trailers, if there is one.
pub(super) fn of_trailers(trailers: &HeaderMap) -> Option<Status> {
    if trailers.get(Status::GRPC_STATUS).is_none_or(|code| code == "0") {
        return None;
    }
    Status::from_header_map(trailers)
}

/// Returns the response, or the failure of the deadline if the handler gave up because no time was left: for the caller,
/// UNAVAILABLE would mean a service that is down.
pub(super) fn excuse<B>(response: Response<B>, due: Instant) -> Result<Response<B>, Failure> {
    let late = Instant::now() >= due;
    match of_head(&response).filter(|status| late && status.code() == Code::Unavailable) {
        Some(status) => Err(deadline::exceeded().caused_by(status)),
        None => Ok(response),
    }
}

/// Replaces a status without details.
pub(super) fn normalise(status: Status) -> Status {
    if !status.details().is_empty() {
        return status;
    }
    let metadata = status.metadata().clone();
    let mut replaced = Status::from(replacement(&status).caused_by(status));
    *replaced.metadata_mut() = metadata;
    replaced
}

fn replacement(status: &Status) -> Failure {
    let text = status.message();
    let as_is = |reason| Failure::new(status.code(), reason, text);
    match status.code() {
        Code::Internal | Code::Unknown | Code::DataLoss if UNREADABLE.iter().any(|start| text.starts_with(start)) => {
            Failure::of(Reason::MalformedRequest, "the request cannot be read")
        }
        Code::OutOfRange if text.starts_with("Error, decoded message length too large") => too_large(last_number(text)),
        Code::ResourceExhausted if text.starts_with("Error decompressing") => too_large(last_number(text)),
        // Also a response that is too large.
        Code::Internal | Code::Unknown | Code::DataLoss | Code::OutOfRange => {
            Failure::of(Reason::Internal, "internal error")
        }
        Code::Cancelled if text == "Timeout expired" => deadline::exceeded(),
        Code::Cancelled => as_is(Reason::Cancelled),
        Code::DeadlineExceeded => as_is(Reason::DeadlineExceeded),
        Code::Unimplemented if text.is_empty() => {
            Failure::of(Reason::Unimplemented, "no such method")
        }
        Code::Unimplemented => as_is(Reason::Unimplemented),
        Code::InvalidArgument => as_is(Reason::InvalidArgument),
        Code::ResourceExhausted => as_is(Reason::Overloaded),
        Code::Ok
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::Unavailable
        // The contract has no reason for these.
        | Code::Unauthenticated => as_is(Reason::Unspecified),
    }
}

/// Returns the failure of a call whose handler or layer panicked.
pub(super) fn panicked(panic: &(dyn Any + Send)) -> Failure {
    Failure::internal(format!("panic: {}", panic_text(panic)))
}

/// Returns the number that comes last in a text: tonic names the limit after the length.
fn last_number(text: &str) -> usize {
    let numbers = text.split(|character: char| !character.is_ascii_digit());
    numbers.filter_map(|number| number.parse().ok()).next_back().unwrap_or_default()
}

/// Returns the failure of a request whose message exceeds this limit.
pub(super) fn too_large(limit: usize) -> Failure {
    Failure::of(Reason::RequestTooLarge, "the request is larger than the message limit")
        .with("limit_bytes", limit.to_string())
        .quota("request", "bytes of one message")
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use tonic_types::StatusExt;

    use super::*;

    fn normalised(status: Status) -> (Code, String) {
        let normalised = normalise(status);
        (normalised.code(), normalised.get_details_error_info().unwrap().reason)
    }

    #[test]
    fn statuses_of_libraries_get_typed_codes_and_reasons() {
        let too_long = "Error, decoded message length too large: found 9 bytes, the limit is: 4 bytes";
        let encoded = "Error, encoded message length too large: found 9 bytes, the limit is: 4 bytes";
        for (status, code, reason) in [
            (Status::out_of_range(too_long), Code::ResourceExhausted, "REQUEST_TOO_LARGE"),
            (Status::out_of_range(encoded), Code::Internal, "INTERNAL"),
            (Status::internal("Missing request message."), Code::InvalidArgument, "MALFORMED_REQUEST"),
            (Status::internal("tonic-web: malformed base64 request"), Code::InvalidArgument, "MALFORMED_REQUEST"),
            (Status::internal("row 7 is broken"), Code::Internal, "INTERNAL"),
            (Status::unknown("a text"), Code::Internal, "INTERNAL"),
            (Status::cancelled("Timeout expired"), Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
            (Status::unimplemented(""), Code::Unimplemented, "UNIMPLEMENTED"),
            (Status::not_found("symbol 'x' not found"), Code::NotFound, "UNSPECIFIED"),
        ] {
            assert_eq!(normalised(status), (code, reason.to_owned()));
        }
    }

    #[test]
    fn the_limit_that_was_exceeded_is_named() {
        let unpacked = "Error decompressing: size limit, of 16 bytes, exceeded while decompressing message";
        let announced = "Error, decoded message length too large: found 9 bytes, the limit is: 16 bytes";
        for status in [Status::resource_exhausted(unpacked), Status::out_of_range(announced)] {
            let info = normalise(status).get_details_error_info().unwrap();
            assert_eq!((info.reason.as_str(), &*info.metadata["limit_bytes"]), ("REQUEST_TOO_LARGE", "16"));
        }
    }

    #[test]
    fn the_text_of_a_fault_is_logged_and_not_sent() {
        let status = normalise(Status::internal("row 7 is broken"));
        assert_eq!(status.message(), "internal error");
        assert!(status.source().unwrap().to_string().contains("row 7"));
    }

    #[test]
    fn a_typed_failure_is_left_alone() {
        let failure = Status::from(Failure::new(Code::OutOfRange, Reason::Unspecified, "beyond the end"));
        let kept = normalise(failure);
        assert_eq!((kept.code(), kept.message()), (Code::OutOfRange, "beyond the end"));
    }
}
