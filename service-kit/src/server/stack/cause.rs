//! Carries the cause of a stream's end to the log line of its call.
//!
//! The cause of a unary failure travels inside its `Status`. A stream's status becomes trailers before any layer sees it
//! and loses its source on the way, so code that ends a stream with an error records the cause here first.

use std::{cell::RefCell, error::Error};

use tonic::Status;

use crate::causes::causes;

tokio::task_local! {
    static CAUSE: RefCell<Option<String>>;
}

/// Records why the stream that is being polled ends, for the log only. Without effect outside of a response stream.
pub fn note_cause(status: &Status) {
    let Some(text) = status.source().map(causes) else {
        return;
    };
    // Fails when there is no receiver.
    let _ = CAUSE.try_with(|cause| cause.replace(Some(text)));
}

/// Polls a response stream and returns its result with the cause that it recorded.
pub(super) fn listening<T>(poll: impl FnOnce() -> T) -> (T, Option<String>) {
    CAUSE.sync_scope(RefCell::default(), || {
        let polled = poll();
        (polled, CAUSE.with(RefCell::take))
    })
}
