//! The bytes of requests that the process holds before their handlers are done with them: many small parts of large messages
//! must not add up to more than the memory there is.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::failure::Failure;

/// A message up to this size is not counted: it is not larger than the buffers of its stream.
const FREE_BYTES: usize = 16 * 1024;

/// The bytes that all requests may hold together. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Budget(Arc<Semaphore>);

/// The bytes of one message, until this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    budget: Budget,
    permit: Option<OwnedSemaphorePermit>,
}

impl Budget {
    pub(super) fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes.min(Semaphore::MAX_PERMITS))))
    }

    /// Begins to count a message.
    pub(super) fn hold(&self) -> Held {
        Held { budget: self.clone(), permit: None }
    }
}

impl Held {
    /// Counts the message as this long.
    ///
    /// # Errors
    /// The budget is used up.
    pub(super) fn grow_to(&mut self, bytes: usize) -> Result<(), Failure> {
        let counted = self.permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = bytes.saturating_sub(FREE_BYTES).saturating_sub(counted);
        if more == 0 {
            return Ok(());
        }
        let more = u32::try_from(more).ok().and_then(|more| self.budget.0.clone().try_acquire_many_owned(more).ok());
        let more = more.ok_or_else(|| {
            Failure::overloaded("too many bytes of requests are being received", "server", "bytes of requests held")
        })?;
        match &mut self.permit {
            Some(permit) => permit.merge(more),
            None => self.permit = Some(more),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_exceeds_the_free_part_counts_until_it_is_dropped() {
        let budget = Budget::new(1_000);
        let (mut first, mut second) = (budget.hold(), budget.hold());
        first.grow_to(FREE_BYTES).unwrap();
        assert_eq!(budget.0.available_permits(), 1_000);
        first.grow_to(FREE_BYTES + 400).unwrap();
        first.grow_to(FREE_BYTES + 900).unwrap();
        assert!(second.grow_to(FREE_BYTES + 101).is_err());
        second.grow_to(FREE_BYTES + 100).unwrap();
        drop((first, second));
        assert_eq!(budget.0.available_permits(), 1_000);
    }
}
