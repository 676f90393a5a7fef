//! Shares of the database's connections, for reads that take long or come in floods: pages of inboxes, which read all
//! conversations of their user, and the beginnings of streams. Neither one user nor all of them together may keep the database
//! from everything else.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, Weak},
};

use futures_util::future::BoxFuture;
use service_kit::{
    bounded::{Bounded, Part},
    failure::Failure,
    lifecycle::Lifecycle,
    sync::lock,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::{Instant, sleep},
};

use crate::domain::ids::UserId;

/// The reads of one kind that run or wait. Cheap to clone; clones share the counts.
#[derive(Debug, Clone)]
pub(super) struct ReadShare {
    /// Those beyond wait, until their deadlines.
    reads: Arc<Semaphore>,
    by_user: Bounded<UserId>,
    /// The users whose reads come one after the other.
    lines: Option<Lines>,
    lifecycle: Lifecycle,
    what: &'static str,
}

/// The lines of users, one for each that has reads.
type Lines = Arc<Mutex<HashMap<UserId, Weak<Semaphore>>>>;

/// The turn of one read, until it is dropped.
#[derive(Debug)]
struct Turn {
    read: OwnedSemaphorePermit,
    of_user: Option<OwnedSemaphorePermit>,
    _counted: Part<UserId>,
}

impl ReadShare {
    /// Creates the share of pages of inboxes, of a pool of so many connections. A user has one read at a time, for half of the
    /// time: each makes the database read all conversations of the user.
    pub(super) fn of_inboxes(connections: u32, lifecycle: &Lifecycle) -> Self {
        let lines = Some(Lines::default());
        Self { lines, ..Self::new(connections, lifecycle, 8, "pages of the inbox read at a time") }
    }

    /// Creates the share of streams that begin.
    pub(super) fn of_streams(connections: u32, lifecycle: &Lifecycle) -> Self {
        Self::new(connections, lifecycle, 1_000, "streams that begin at a time")
    }

    /// Half of the connections are left for other reads.
    fn new(connections: u32, lifecycle: &Lifecycle, most_of_user: usize, what: &'static str) -> Self {
        let reads = Arc::new(Semaphore::new((connections as usize / 2).max(1)));
        let by_user = Bounded::new(usize::MAX, most_of_user);
        Self { reads, by_user, lines: None, lifecycle: lifecycle.clone(), what }
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
        let (sender, outcome) = oneshot::channel();
        let closing = self.lifecycle.closing().clone();
        let reading = async move {
            let (began, Turn { read: share, of_user, _counted: counted }) = (Instant::now(), turn);
            // The caller may have given up.
            drop(sender.send(read.await));
            drop(share);
            if of_user.is_some() {
                // A shutdown waits for jobs, and need not for this.
                closing.run_until_cancelled(sleep(began.elapsed())).await;
            }
            drop((of_user, counted));
        };
        drop(self.lifecycle.spawn_job("read", reading));
        outcome.await.unwrap_or_else(|_| Err(Failure::internal("a read has panicked")))
    }

    async fn turn(&self, user_id: &UserId) -> Result<Turn, Failure> {
        let counted = self
            .by_user
            .take(user_id, 1)
            .map_err(|_| Failure::overloaded(format!("too many {} for this user", self.what), "user", self.what))?;
        let closed = |_| Failure::not_ready();
        let of_user = match self.line(user_id) {
            Some(line) => Some(line.acquire_owned().await.map_err(closed)?),
            None => None,
        };
        let read = self.reads.clone().acquire_owned().await.map_err(closed)?;
        Ok(Turn { read, of_user, _counted: counted })
    }

    /// Returns the line of a user, if users have lines.
    fn line(&self, user_id: &UserId) -> Option<Arc<Semaphore>> {
        let mut lines = lock(self.lines.as_ref()?);
        if let Some(line) = lines.get(user_id).and_then(Weak::upgrade) {
            return Some(line);
        }
        lines.retain(|_, line| line.strong_count() > 0);
        let line = Arc::new(Semaphore::new(1));
        lines.insert(user_id.clone(), Arc::downgrade(&line));
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use service_kit::lifecycle::Grace;

    use super::*;

    #[tokio::test]
    async fn one_user_has_one_turn_waits_for_others_and_is_refused_beyond_a_share() {
        let shares = ReadShare::of_inboxes(8, &Lifecycle::default());
        let (ann, ben) = ("ann".into(), "ben".into());
        let running = shares.turn(&ann).await.unwrap();
        let mut waiting: Vec<_> = (1..8).map(|_| Box::pin(shares.turn(&ann))).collect();
        for turn in &mut waiting {
            assert!(turn.now_or_never().is_none());
        }
        assert!(shares.turn(&ann).await.is_err());
        shares.turn(&ben).await.unwrap();
        drop((waiting, running));
        shares.turn(&ann).await.unwrap();
        assert_eq!(shares.by_user.used(), 0);
        shares.turn(&ben).await.unwrap();
        assert_eq!(lock(shares.lines.as_ref().unwrap()).len(), 1);
    }

    #[tokio::test]
    async fn all_users_have_half_of_the_connections() {
        let shares = ReadShare::of_inboxes(8, &Lifecycle::default());
        let mut running = Vec::new();
        for user in ["a", "b", "c", "d"] {
            running.push(shares.turn(&user.into()).await.unwrap());
        }
        let last = "e".into();
        let mut next = Box::pin(shares.turn(&last));
        assert!((&mut next).now_or_never().is_none());
        running.pop();
        next.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_read_its_user_waits_for_as_long_as_it_took() {
        let shares = ReadShare::of_inboxes(8, &Lifecycle::default());
        let (ann, took) = ("ann".into(), std::time::Duration::from_millis(100));
        let began = Instant::now();
        for read in 0..3 {
            let reading = async move {
                sleep(took).await;
                Ok(())
            };
            shares.read(&ann, Box::pin(reading)).await.unwrap();
            assert_eq!(began.elapsed(), took * (2 * read + 1));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_shutdown_does_not_wait_for_the_pause_after_a_read() {
        let lifecycle = Lifecycle::default();
        let shares = ReadShare::of_inboxes(8, &lifecycle);
        let reading = async {
            sleep(std::time::Duration::from_mins(1)).await;
            Ok(())
        };
        shares.read(&"ann".into(), Box::pin(reading)).await.unwrap();
        let began = Instant::now();
        lifecycle.shutdown(Grace::default()).await;
        assert!(began.elapsed() <= Grace::default().accept, "{:?}", began.elapsed());
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
