//! Deadlines of calls: `grpc-timeout`, or the default of unary calls.
//!
//! The layer ends the call itself; handlers find the [`Deadline`] in the request's extensions and pass the
//! remaining time on, to the database and to other services.

use std::time::Duration;

use http::{Extensions, HeaderMap};
use tokio::time::Instant;

use crate::failure::{Failure, Reason};

/// The moment after which the caller no longer waits for the response. Streams may have none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// Creates a deadline at this moment.
    pub fn at(moment: Instant) -> Self {
        Self(Some(moment))
    }

    /// Creates the absence of a deadline.
    pub fn none() -> Self {
        Self(None)
    }

    /// Returns the deadline of a call from its extensions; none where the server's layer did not run.
    pub fn of(extensions: &Extensions) -> Self {
        extensions.get().copied().unwrap_or_default()
    }

    /// Returns the moment, if there is one.
    pub fn moment(self) -> Option<Instant> {
        self.0
    }

    /// Returns the remaining time, zero when it has passed; `None` without a deadline.
    pub fn remaining(self) -> Option<Duration> {
        self.0.map(|moment| moment.saturating_duration_since(Instant::now()))
    }

    /// Returns the remaining time, but at most this much: the bound of one step of the work.
    pub fn remaining_within(self, most: Duration) -> Duration {
        self.remaining().map_or(most, |left| left.min(most))
    }
}

/// Reads `grpc-timeout`: one to eight digits and a unit.
pub(super) fn requested(headers: &HeaderMap) -> Result<Option<Duration>, Failure> {
    let Some(value) = headers.get("grpc-timeout") else {
        return Ok(None);
    };
    let malformed = || Failure::of(Reason::MalformedRequest, "malformed grpc-timeout");
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

/// The failure of a call whose deadline has passed.
pub(super) fn exceeded() -> Failure {
    Failure::of(Reason::DeadlineExceeded, "deadline exceeded")
}
