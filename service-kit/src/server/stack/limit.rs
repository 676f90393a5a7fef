//! Limits the number of unary calls that run at a time. A call beyond that is refused at once, with a retry delay: a queue
//! would only turn overload into timeouts.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::failure::Failure;

#[derive(Debug)]
pub(super) struct Limit(Arc<Semaphore>);

impl Limit {
    pub(super) fn new(most: usize) -> Self {
        Self(Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))))
    }

    /// Takes a place for a call, which it holds until its response begins.
    pub(super) fn enter(&self) -> Result<OwnedSemaphorePermit, Failure> {
        Arc::clone(&self.0)
            .try_acquire_owned()
            .map_err(|_| Failure::overloaded("too many calls at a time", "server", "calls running at a time"))
    }
}
