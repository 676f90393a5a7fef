//! Shares of the database's connections, for reads that take long or come in floods: pages of inboxes, which read all
//! conversations of their user, and the beginnings of streams. Neither one user nor all of them together may keep the database
//! from everything else.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use service_kit::{
    bounded::{Bounded, Part},
    failure::Failure,
    lifecycle::Lifecycle,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::domain::ids::UserId;

/// The reads of one kind that run or wait. Cheap to clone; clones share the counts.
#[derive(Debug, Clone)]
pub(super) struct ReadShare {
    /// Those beyond wait, until their deadlines.
    reads: Arc<Semaphore>,
    by_user: Bounded<UserId>,
    lifecycle: Lifecycle,
    what: &'static str,
}

/// The turn of one read, until it is dropped.
#[derive(Debug)]
struct Turn {
    _read: OwnedSemaphorePermit,
    _counted: Part<UserId>,
}

impl ReadShare {
    /// Creates the share of pages of inboxes, of a pool of so many connections.
    pub(super) fn of_inboxes(connections: u32, lifecycle: &Lifecycle) -> Self {
        Self::new(connections, lifecycle, 8, "pages of the inbox read at a time")
    }

    /// Creates the share of streams that begin.
    pub(super) fn of_streams(connections: u32, lifecycle: &Lifecycle) -> Self {
        Self::new(connections, lifecycle, 1_000, "streams that begin at a time")
    }

    /// Half of the connections are left for other reads.
    fn new(connections: u32, lifecycle: &Lifecycle, most_of_user: usize, what: &'static str) -> Self {
        let reads = Arc::new(Semaphore::new((connections as usize / 2).max(1)));
        Self { reads, by_user: Bounded::new(usize::MAX, most_of_user), lifecycle: lifecycle.clone(), what }
    }

    /// Runs a read in its turn. It goes on if its caller gives up: the database does, too, and the turn must last as long.
    ///
    /// # Errors
    /// `OVERLOADED` if too many reads of the user wait, and those of the read.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        user_id: &UserId,
        read: BoxFuture<'static, Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let turn = self.turn(user_id).await?;
        let reading = self.lifecycle.spawn_job("read", async move {
            let outcome = read.await;
            drop(turn);
            outcome
        });
        reading.await.unwrap_or_else(|_| Err(Failure::internal("a read has panicked")))
    }

    async fn turn(&self, user_id: &UserId) -> Result<Turn, Failure> {
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
        let shares = ReadShare::of_inboxes(8, &Lifecycle::default());
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

    #[tokio::test]
    async fn a_read_whose_caller_has_given_up_keeps_its_turn_until_its_end() {
        let shares = ReadShare::of_inboxes(2, &Lifecycle::default());
        let (ann, ben) = ("ann".into(), "ben".into());
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let mut reading = Box::pin(shares.read(
            &ann,
            Box::pin(async move {
                ended.await.ok();
                Ok(())
            }),
        ));
        assert!((&mut reading).now_or_never().is_none());
        drop(reading);
        let mut next = Box::pin(shares.read(&ben, Box::pin(async { Ok(()) })));
        assert!((&mut next).now_or_never().is_none());
        end.send(()).unwrap();
        next.await.unwrap();
    }
}
