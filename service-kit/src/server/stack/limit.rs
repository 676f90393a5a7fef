//! How many unary calls run at a time. Beyond that a call is refused at once, with advice, in place of a queue that
//! only turns overload into timeouts.

use std::{sync::Arc, time::Duration};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Code;

use crate::failure::{Failure, reason};

const RETRY_DELAY: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(super) struct Limit(Arc<Semaphore>);

impl Limit {
    pub(super) fn new(most: usize) -> Self {
        Self(Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))))
    }

    /// Takes a place for a call, which it holds until its response begins.
    pub(super) fn enter(&self) -> Result<OwnedSemaphorePermit, Failure> {
        Arc::clone(&self.0).try_acquire_owned().map_err(|_| {
            Failure::new(Code::ResourceExhausted, reason::OVERLOADED, "too many calls at a time")
                .quota("server", "calls running at a time")
                .retry_after(RETRY_DELAY)
        })
    }
}
