//! The error of a call: a gRPC code, a stable reason, a message for people and typed details.
//!
//! Services and layers build a [`Failure`]; it becomes a [`tonic::Status`] with `google.rpc.ErrorInfo` always, and the
//! detail that the code calls for. The cause stays on the server: it is kept as the status's source and logged once, by
//! the layer that writes the line for the failed call.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::reason;
pub use crate::reason::Reason;

/// The `domain` of every `ErrorInfo` that Parlance sends.
const DOMAIN: &str = "parlance";

/// Clients in several languages drop a call whose headers exceed 8 KiB, so a response lists at most this many violations.
pub(crate) const MAX_VIOLATIONS: usize = 20;

/// Texts longer than this many bytes are truncated: some repeat what the caller sent.
const MAX_TEXT_BYTES: usize = 512;

/// Metadata values longer than this many bytes are truncated: they are ids and limits, never content.
const MAX_METADATA_BYTES: usize = 1024;

/// One violated bound of one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The path of the field in the request, such as `user.display_name` or `user_ids[3]`.
    pub field: String,
    /// The rule that the field must meet, for people.
    pub description: String,
}

/// An error response, and the cause that is logged but not sent.
#[derive(Debug, Clone)]
pub struct Failure {
    code: Code,
    reason: Reason,
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
    /// Builds the failure for a reason, with the code and the usual retry delay of that reason. `message` is for people:
    /// lower case, no full stop, no SQL.
    pub fn of(reason: Reason, message: impl Into<String>) -> Self {
        Self { retry_delay: reason::retry_delay(reason), ..Self::new(reason::code(reason), reason, message) }
    }

    /// Builds a failure with a code other than the one that goes with the reason, and without a retry delay.
    pub fn new(code: Code, reason: Reason, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: truncated(message, MAX_TEXT_BYTES),
            metadata: HashMap::new(),
            violations: Vec::new(),
            resource: None,
            precondition: None,
            quota: None,
            retry_delay: None,
            cause: None,
        }
    }

    /// A bug of the service or a corrupt row: `cause` is logged and not sent.
    pub fn internal(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::of(Reason::Internal, "internal error").caused_by(cause)
    }

    /// The database cannot be reached; the call changed nothing, or repeating it changes nothing more.
    pub fn database_unavailable() -> Self {
        Self::of(Reason::DatabaseUnavailable, "the database is not available")
    }

    /// The call arrived before the database was migrated and opened.
    pub fn not_ready() -> Self {
        Self::of(Reason::DatabaseUnavailable, "the service is not ready").caused_by(NotReady)
    }

    /// A write without a request id may or may not have been committed.
    pub fn outcome_unknown() -> Self {
        let message = "the outcome is unknown; without a request_id a retry may store it twice, so check first";
        Self::of(Reason::OutcomeUnknown, message)
    }

    /// The service is shutting down.
    pub fn draining() -> Self {
        Self::of(Reason::Draining, "the service is shutting down")
    }

    /// The queue called `subject` is full; `limit` names what is limited, such as `lookups waiting at a time`.
    pub fn overloaded(message: impl Into<String>, subject: &str, limit: &str) -> Self {
        Self::of(Reason::Overloaded, message).quota(subject, limit)
    }

    /// One field violates its bounds.
    pub fn invalid_field(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::invalid(vec![Violation { field: field.into(), description: description.into() }], 0)
    }

    /// The violated fields of one request, of which at most 20 are sent, and the number of those that are not among them.
    /// `fields::Fields` collects them.
    pub fn invalid(violations: Vec<Violation>, unlisted: usize) -> Self {
        let message = violations.first().map_or_else(
            || "invalid request".to_owned(),
            |first| {
                let more = violations.len() - 1 + unlisted;
                let tail = if more == 0 { String::new() } else { format!(" (and {more} more)") };
                format!("{}: {}{tail}", first.field, first.description)
            },
        );
        Self { violations, ..Self::of(Reason::InvalidArgument, message) }
    }

    /// Names a field that must change (`google.rpc.BadRequest`).
    #[must_use]
    pub fn violating(mut self, field: impl Into<String>, description: impl Into<String>) -> Self {
        self.violations.push(Violation { field: field.into(), description: description.into() });
        self
    }

    /// Adds an entry to the `ErrorInfo` metadata. Values are ids and limits; longer ones are truncated to 1 KiB.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.metadata.insert(key.to_owned(), truncated(value, MAX_METADATA_BYTES));
        self
    }

    /// Names the resource that is missing or taken (`google.rpc.ResourceInfo`).
    #[must_use]
    pub fn resource(mut self, kind: &'static str, name: impl Into<String>) -> Self {
        self.resource = Some((kind, truncated(name, MAX_TEXT_BYTES)));
        self
    }

    /// Names the state that must change first (`google.rpc.PreconditionFailure`). Its type is the reason.
    #[must_use]
    pub fn precondition(mut self, subject: impl Into<String>, description: impl Into<String>) -> Self {
        self.precondition = Some((truncated(subject, MAX_TEXT_BYTES), truncated(description, MAX_TEXT_BYTES)));
        self
    }

    /// Names the limit that was reached (`google.rpc.QuotaFailure`).
    #[must_use]
    pub fn quota(mut self, subject: impl Into<String>, description: impl Into<String>) -> Self {
        self.quota = Some((truncated(subject, MAX_TEXT_BYTES), truncated(description, MAX_TEXT_BYTES)));
        self
    }

    /// Sets how long the caller should wait before it repeats the call (`google.rpc.RetryInfo`).
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.retry_delay = Some(delay);
        self
    }

    /// Keeps the cause for the log. It is never sent.
    #[must_use]
    pub fn caused_by(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.cause = Some(Arc::from(cause.into()));
        self
    }

    /// Returns the other failure with the cause of this one.
    #[must_use]
    pub fn replaced_by(self, other: Self) -> Self {
        Self { cause: self.cause, ..other }
    }

    /// Returns the gRPC code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// Returns the reason, without the prefix of the enum.
    pub fn reason(&self) -> &'static str {
        reason::name(self.reason)
    }
}

fn truncated(text: impl Into<String>, most: usize) -> String {
    let mut text = text.into();
    text.truncate(text.floor_char_boundary(most));
    text
}

/// The cause of [`Failure::not_ready`]. Every start has such calls, so they are no reason for a warning; a start that takes
/// long has warnings of its own.
#[derive(Debug, thiserror::Error)]
#[error("the service is starting: its database is not open yet")]
pub(crate) struct NotReady;

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        let reason = reason::name(failure.reason);
        let mut details = ErrorDetails::new();
        details.set_error_info(reason, DOMAIN, failure.metadata);
        for violation in failure.violations.into_iter().take(MAX_VIOLATIONS) {
            details.add_bad_request_violation(violation.field, violation.description);
        }
        if let Some((kind, name)) = failure.resource {
            details.set_resource_info(kind, name, "", "");
        }
        if let Some((subject, description)) = failure.precondition {
            details.add_precondition_failure_violation(reason, subject, description);
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
