//! Shares of the database's connections, for reads that take long or come in floods: pages of inboxes, which read all
//! conversations of their user, and the beginnings of streams. Neither one user nor all of them together may keep the database
//! from everything else.

use std::sync::Arc;

use service_kit::{
    counts::{Bounded, Part},
    failure::Failure,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::domain::ids::UserId;

/// The reads of one kind that run or wait. Cheap to clone; clones share the counts.
#[derive(Debug, Clone)]
pub(super) struct ReadShare {
    /// Those beyond wait, until their deadlines.
    reads: Arc<Semaphore>,
    by_user: Bounded<UserId>,
    what: &'static str,
}

/// The turn of one read, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    _read: OwnedSemaphorePermit,
    _counted: Part<UserId>,
}

impl ReadShare {
    /// Creates the share of pages of inboxes, of a pool of so many connections.
    pub(super) fn of_inboxes(connections: u32) -> Self {
        Self::new(connections, 8, "pages of the inbox read at a time")
    }

    /// Creates the share of streams that begin.
    pub(super) fn of_streams(connections: u32) -> Self {
        Self::new(connections, 1_000, "streams that begin at a time")
    }

    /// Half of the connections are left for other reads.
    fn new(connections: u32, most_of_user: usize, what: &'static str) -> Self {
        let reads = Arc::new(Semaphore::new((connections as usize / 2).max(1)));
        Self { reads, by_user: Bounded::new(usize::MAX, most_of_user), what }
    }

    /// Waits for the turn of a read.
    ///
    /// # Errors
    /// `OVERLOADED` if too many reads of the user wait.
    pub(super) async fn turn(&self, user_id: &UserId) -> Result<Turn, Failure> {
        let counted = self
            .by_user
            .take(user_id, 1)
            .map_err(|_| Failure::overloaded(format!("too many {} for this user", self.what), "user", self.what))?;
        let read = self.reads.clone().acquire_owned().await.map_err(|_| Failure::not_ready())?;
        Ok(Turn { _read: read, _counted: counted })
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn one_user_waits_for_turns_and_is_refused_beyond_a_share() {
        let shares = ReadShare::of_inboxes(8);
        let (ann, ben) = ("ann".into(), "ben".into());
        let mut running = Vec::new();
        for _ in 0..4 {
            running.push(shares.turn(&ann).await.unwrap());
        }
        let mut waiting: Vec<_> = (4..8).map(|_| Box::pin(shares.turn(&ann))).collect();
        for turn in &mut waiting {
            assert!(turn.now_or_never().is_none());
        }
        assert!(shares.turn(&ann).await.is_err());
        let other = Box::pin(shares.turn(&ben));
        drop((waiting, running));
        other.await.unwrap();
        assert_eq!(shares.by_user.used(), 0);
    }
}
