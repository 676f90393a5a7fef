//! What may be in use at a time, of places or of bytes: by the server, and by one address and one connection as parts of it, so
//! that none of them takes everything from the others. What exceeds a quota is refused at once, with a retry delay: a queue
//! would only turn overload into timeouts.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::failure::Failure;

/// A message up to this size is not counted in bytes: its stream takes more.
const FREE_BYTES: usize = 1024;

/// A bounded amount. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Quota {
    /// The narrowest first.
    levels: Arc<[Level]>,
    what: &'static str,
}

#[derive(Debug, Clone)]
struct Level {
    of: Of,
    room: Arc<Semaphore>,
    most: usize,
}

/// Whose amount is bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    Connection,
    Address,
    Server,
}

/// A part of a quota, until it is dropped.
#[derive(Debug, Default)]
pub(super) struct Taken(Vec<OwnedSemaphorePermit>);

/// The bytes of one message, until this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    quota: Quota,
    counted: usize,
    taken: Taken,
}

impl Quota {
    /// Creates the quota of the server, of things named by `what`, such as "calls running at a time".
    pub(super) fn new(most: usize, what: &'static str) -> Self {
        let most = most.min(Semaphore::MAX_PERMITS);
        Self { levels: Arc::new([Level::new(Of::Server, most)]), what }
    }

    /// Returns a quota within this one: one of `parts` equal parts, but at least `least` where there is so much.
    pub(super) fn part(&self, of: Of, parts: usize, least: usize) -> Self {
        let most = self.levels[0].most;
        let mut levels = vec![Level::new(of, (most / parts).max(least).min(most))];
        levels.extend_from_slice(&self.levels);
        Self { levels: levels.into(), what: self.what }
    }

    /// Takes an amount, if there is so much.
    ///
    /// # Errors
    /// `OVERLOADED`, with the level that is used up.
    pub(super) fn take(&self, amount: usize) -> Result<Taken, Failure> {
        let mut taken = Taken(Vec::with_capacity(self.levels.len()));
        for level in &*self.levels {
            let amount = u32::try_from(amount).ok();
            let permit = amount.and_then(|amount| level.room.clone().try_acquire_many_owned(amount).ok());
            taken.0.push(permit.ok_or_else(|| self.used_up(level.of))?);
        }
        Ok(taken)
    }

    /// Begins to count the bytes of a message.
    pub(super) fn hold(&self) -> Held {
        Held { quota: self.clone(), counted: 0, taken: Taken::default() }
    }

    fn used_up(&self, of: Of) -> Failure {
        let (subject, on) = match of {
            Of::Connection => ("connection", " on one connection"),
            Of::Address => ("address", " of one address"),
            Of::Server => ("server", ""),
        };
        Failure::overloaded(format!("too many {}{on}", self.what), subject, self.what)
    }
}

impl Level {
    fn new(of: Of, most: usize) -> Self {
        Self { of, room: Arc::new(Semaphore::new(most)), most }
    }
}

impl Taken {
    /// Adds more of the same quota.
    fn merge(&mut self, more: Self) {
        if self.0.is_empty() {
            self.0 = more.0;
            return;
        }
        for (taken, more) in self.0.iter_mut().zip(more.0) {
            taken.merge(more);
        }
    }
}

impl Held {
    /// Counts the message as this long.
    ///
    /// # Errors
    /// The quota is used up.
    pub(super) fn grow_to(&mut self, bytes: usize) -> Result<(), Failure> {
        let more = bytes.saturating_sub(FREE_BYTES).saturating_sub(self.counted);
        if more > 0 {
            self.taken.merge(self.quota.take(more)?);
            self.counted += more;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(quota: &Quota) -> Vec<usize> {
        quota.levels.iter().map(|level| level.room.available_permits()).collect()
    }

    #[test]
    fn what_exceeds_the_free_part_counts_until_it_is_dropped() {
        let quota = Quota::new(1_000, "bytes");
        let (mut first, mut second) = (quota.hold(), quota.hold());
        first.grow_to(FREE_BYTES).unwrap();
        assert_eq!(left(&quota), [1_000]);
        first.grow_to(FREE_BYTES + 400).unwrap();
        first.grow_to(FREE_BYTES + 900).unwrap();
        assert!(second.grow_to(FREE_BYTES + 101).is_err());
        second.grow_to(FREE_BYTES + 100).unwrap();
        drop((first, second));
        assert_eq!(left(&quota), [1_000]);
    }

    #[test]
    fn a_part_counts_against_the_whole_and_what_is_refused_counts_nowhere() {
        let server = Quota::new(100, "calls");
        let address = server.part(Of::Address, 2, 0);
        let (one, other) = (address.part(Of::Connection, 2, 40), address.part(Of::Connection, 2, 0));
        assert_eq!((left(&one), left(&other)), (vec![40, 50, 100], vec![25, 50, 100]));
        let taken = one.take(30).unwrap();
        assert!(one.take(11).is_err() && other.take(21).is_err());
        assert_eq!((left(&one), left(&other)), (vec![10, 20, 70], vec![25, 20, 70]));
        drop(taken);
        assert_eq!(left(&one), [40, 50, 100]);
    }
}
