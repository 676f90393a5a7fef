//! When the caller stops waiting: `grpc-timeout`, or the default of unary calls.
//!
//! The layer ends the call itself; handlers find the [`Deadline`] in the request's extensions and pass what is left of
//! it on, to the database and to other services.

use std::time::Duration;

use http::{Extensions, HeaderMap};
use tokio::time::Instant;
use tonic::Code;

use crate::failure::{Failure, reason};

/// The moment after which nobody waits for the answer; streams without one have none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// A deadline at this moment.
    pub fn at(moment: Instant) -> Self {
        Self(Some(moment))
    }

    /// No deadline.
    pub fn none() -> Self {
        Self(None)
    }

    /// The deadline of the call whose extensions these are; none where the server's layer did not run.
    pub fn of(extensions: &Extensions) -> Self {
        extensions.get().copied().unwrap_or_default()
    }

    /// The moment, if there is one.
    pub fn moment(self) -> Option<Instant> {
        self.0
    }

    /// What is left, zero when it has passed; nothing without a deadline.
    pub fn remaining(self) -> Option<Duration> {
        self.0.map(|moment| moment.saturating_duration_since(Instant::now()))
    }

    /// What is left, but at most this long: the bound of one step of the work.
    pub fn remaining_within(self, most: Duration) -> Duration {
        self.remaining().map_or(most, |left| left.min(most))
    }
}

/// Reads `grpc-timeout`: one to eight digits and a unit.
pub(super) fn given(headers: &HeaderMap) -> Result<Option<Duration>, Failure> {
    let Some(value) = headers.get("grpc-timeout") else {
        return Ok(None);
    };
    let malformed = || Failure::new(Code::InvalidArgument, reason::MALFORMED_REQUEST, "malformed grpc-timeout");
    let text = value.to_str().map_err(|_| malformed())?;
    let (digits, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(malformed)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(malformed());
    }
    let amount: u64 = digits.parse().map_err(|_| malformed())?;
    match unit {
        "H" => Ok(Some(Duration::from_secs(amount * 3600))),
        "M" => Ok(Some(Duration::from_secs(amount * 60))),
        "S" => Ok(Some(Duration::from_secs(amount))),
        "m" => Ok(Some(Duration::from_millis(amount))),
        "u" => Ok(Some(Duration::from_micros(amount))),
        "n" => Ok(Some(Duration::from_nanos(amount))),
        _ => Err(malformed()),
    }
}

/// What a caller is told whose deadline passed.
pub(super) fn exceeded() -> Failure {
    Failure::new(Code::DeadlineExceeded, reason::DEADLINE_EXCEEDED, "deadline exceeded")
}
