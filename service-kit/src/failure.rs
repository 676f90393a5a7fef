//! The one door through which every "no" leaves: a gRPC code, a stable reason, a text for people and typed details.
//!
//! Services and layers build a [`Failure`]; it becomes a [`tonic::Status`] with `google.rpc.ErrorInfo` always, and the
//! detail that the code calls for. The cause stays on the server: it is kept as the status's source and logged once, by
//! the layer that writes the line for the failed call.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// The `domain` of every `ErrorInfo` that Parlance sends.
pub const DOMAIN: &str = "parlance";

/// Clients of several languages drop a call whose headers exceed 8 KiB, so an answer lists at most this many violations.
const MAX_VIOLATIONS: usize = 20;

/// Metadata values longer than this many bytes are cut: they name ids and limits, never contents.
const MAX_METADATA_BYTES: usize = 1024;

/// Reasons given by the layers that both services share. Each is a value of `parlance.error.v1.ErrorReason` without its
/// prefix; a test of the contract holds the two together.
pub mod reason {
    /// A field or a whole request is malformed or out of bounds.
    pub const INVALID_ARGUMENT: &str = "INVALID_ARGUMENT";
    /// Our own bug or a corrupt row.
    pub const INTERNAL: &str = "INTERNAL";
    /// The deadline passed before the answer was ready.
    pub const DEADLINE_EXCEEDED: &str = "DEADLINE_EXCEEDED";
    /// The client gave the call up.
    pub const CANCELLED: &str = "CANCELLED";
    /// The request is larger than the message limit.
    pub const REQUEST_TOO_LARGE: &str = "REQUEST_TOO_LARGE";
    /// A queue or a connection's allowance is full.
    pub const OVERLOADED: &str = "OVERLOADED";
    /// The service is shutting down.
    pub const DRAINING: &str = "DRAINING";
    /// The database cannot be reached or did not answer in time.
    pub const DATABASE_UNAVAILABLE: &str = "DATABASE_UNAVAILABLE";
    /// No such method or service.
    pub const UNIMPLEMENTED: &str = "UNIMPLEMENTED";
    /// The request does not carry a gRPC content type, or a frame cannot be decoded.
    pub const MALFORMED_REQUEST: &str = "MALFORMED_REQUEST";
    /// The `Host` is not a loopback name while the service listens on loopback without authentication.
    pub const HOST_NOT_ALLOWED: &str = "HOST_NOT_ALLOWED";
    /// The outcome of a write is not known and a retry is not safe.
    pub const OUTCOME_UNKNOWN: &str = "OUTCOME_UNKNOWN";
    /// The page token was not made by this service for these arguments.
    pub const PAGE_TOKEN_INVALID: &str = "PAGE_TOKEN_INVALID";
    /// Lost a race against other writers, after our own retries.
    pub const CONFLICT: &str = "CONFLICT";
}

/// One violated bound of one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field in the request, such as `user.display_name` or `user_ids[3]`.
    pub field: String,
    /// What must hold, in words for the caller.
    pub description: String,
}

/// Why a call is answered with an error, and all that the caller may know of it.
#[derive(Debug, Clone)]
pub struct Failure {
    code: Code,
    reason: &'static str,
    message: String,
    metadata: HashMap<String, String>,
    violations: Vec<Violation>,
    resource: Option<(&'static str, String)>,
    precondition: Option<(String, String)>,
    quota: Option<(String, String)>,
    retry_delay: Option<Duration>,
    cause: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl Failure {
    /// Makes a failure of this code and reason. `message` is for people: lower case, no full stop, no SQL.
    pub fn new(code: Code, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            metadata: HashMap::new(),
            violations: Vec::new(),
            resource: None,
            precondition: None,
            quota: None,
            retry_delay: None,
            cause: None,
        }
    }

    /// Our own bug or a corrupt row: the caller learns nothing, `cause` is logged.
    pub fn internal(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::new(Code::Internal, reason::INTERNAL, "internal error").caused_by(cause)
    }

    /// All violated fields of one request at once. At most 20 are sent; none is an internal error of ours.
    pub fn invalid(violations: Vec<Violation>) -> Self {
        let message = violations.first().map_or_else(
            || "invalid request".to_owned(),
            |first| {
                let more = violations.len() - 1;
                let tail = if more == 0 { String::new() } else { format!(" (and {more} more)") };
                format!("{}: {}{tail}", first.field, first.description)
            },
        );
        Self { violations, ..Self::new(Code::InvalidArgument, reason::INVALID_ARGUMENT, message) }
    }

    /// Adds an entry to the `ErrorInfo` metadata. Values are ids and limits; longer ones are cut at 1 KiB.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        let mut value = value.into();
        if value.len() > MAX_METADATA_BYTES {
            let mut end = MAX_METADATA_BYTES;
            while !value.is_char_boundary(end) {
                end -= 1;
            }
            value.truncate(end);
        }
        self.metadata.insert(key.to_owned(), value);
        self
    }

    /// Names the resource that is missing or taken (`google.rpc.ResourceInfo`).
    #[must_use]
    pub fn resource(mut self, kind: &'static str, name: impl Into<String>) -> Self {
        self.resource = Some((kind, name.into()));
        self
    }

    /// Names the state that must change first (`google.rpc.PreconditionFailure`); its type is the reason.
    #[must_use]
    pub fn precondition(mut self, subject: impl Into<String>, description: impl Into<String>) -> Self {
        self.precondition = Some((subject.into(), description.into()));
        self
    }

    /// Names the limit that was met (`google.rpc.QuotaFailure`).
    #[must_use]
    pub fn quota(mut self, subject: impl Into<String>, description: impl Into<String>) -> Self {
        self.quota = Some((subject.into(), description.into()));
        self
    }

    /// Tells the caller how long to wait before the same call may succeed (`google.rpc.RetryInfo`).
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.retry_delay = Some(delay);
        self
    }

    /// Keeps the cause for the log. It never leaves the process.
    #[must_use]
    pub fn caused_by(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.cause = Some(Arc::from(cause.into()));
        self
    }

    /// Says something else about the same cause.
    #[must_use]
    pub fn told_as(self, other: Self) -> Self {
        Self { cause: self.cause, ..other }
    }

    /// The gRPC code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The stable reason, without the enum's prefix.
    pub fn reason(&self) -> &'static str {
        self.reason
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        let mut details = ErrorDetails::new();
        details.set_error_info(failure.reason, DOMAIN, failure.metadata);
        for violation in failure.violations.into_iter().take(MAX_VIOLATIONS) {
            details.add_bad_request_violation(violation.field, violation.description);
        }
        if let Some((kind, name)) = failure.resource {
            details.set_resource_info(kind, name, "", "");
        }
        if let Some((subject, description)) = failure.precondition {
            details.add_precondition_failure_violation(failure.reason, subject, description);
        }
        if let Some((subject, description)) = failure.quota {
            details.add_quota_failure_violation(subject, description);
        }
        if let Some(delay) = failure.retry_delay {
            details.set_retry_info(Some(delay));
        }
        let mut status = Self::with_error_details(failure.code, failure.message, details);
        if let Some(cause) = failure.cause {
            status.set_source(cause);
        }
        status
    }
}

/// Collects the violations of one request, so that a caller learns of all of them at once.
#[derive(Debug, Default)]
pub struct Violations(Vec<Violation>);

impl Violations {
    /// Adds one violated bound.
    pub fn add(&mut self, field: impl Into<String>, description: impl Into<String>) {
        self.0.push(Violation { field: field.into(), description: description.into() });
    }

    /// Takes the value of a parsed field, or notes what is wrong with it.
    pub fn check<T>(&mut self, field: &str, parsed: Result<T, impl std::fmt::Display>) -> Option<T> {
        parsed.map_err(|problem| self.add(field, problem.to_string())).ok()
    }

    /// Fails with every violation noted so far.
    ///
    /// # Errors
    /// [`Failure::invalid`] when there is at least one.
    pub fn into_result(self) -> Result<(), Failure> {
        if self.0.is_empty() { Ok(()) } else { Err(Failure::invalid(self.0)) }
    }
}
