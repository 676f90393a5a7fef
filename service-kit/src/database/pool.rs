//! The sessions that calls share. Not sqlx's pool: it keeps sessions of a server that has become read only, hides why no
//! session could be opened, and does not know the server process of a call that must be cancelled.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep, timeout_at},
};
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

use super::{Error, Settings, canceller::Canceller, error, session::Session};
use crate::{
    backoff::{Backoff, jittered},
    sync::lock,
};

/// A session is replaced after this time, so that the memory of its server process is bounded.
const MAX_AGE: Duration = Duration::from_mins(30);

/// An idle session is closed after this time.
const MAX_IDLE_TIME: Duration = Duration::from_mins(10);

/// The time for which a session that was refused counts: many calls must not become many attempts to connect.
const REFUSED_PAUSE: Duration = Duration::from_millis(100);

/// A bounded number of sessions, opened when they are needed. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Pool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    settings: Settings,
    canceller: Canceller,
    /// One for each session that may be open and is not idle.
    permits: Arc<Semaphore>,
    /// The one used last is at the end.
    idle: Mutex<Vec<Session>>,
    in_use: TaskTracker,
}

impl Pool {
    pub(super) fn new(settings: Settings, canceller: Canceller) -> Self {
        let permits = Arc::new(Semaphore::new(settings.connections as usize));
        let (idle, in_use) = (Mutex::default(), TaskTracker::new());
        Self { shared: Arc::new(Shared { settings, canceller, permits, idle, in_use }) }
    }

    /// Returns a session within the timeout.
    pub(super) async fn lease(&self) -> Result<Lease, Error> {
        let shared = &self.shared;
        let deadline = Instant::now() + shared.settings.timeout;
        let hold =
            Hold { shared: shared.clone(), _token: shared.in_use.token(), permit: shared.permit(deadline).await? };
        let session = match timeout_at(deadline, shared.take_idle()).await {
            Ok(Some(session)) => session,
            Ok(None) => match Box::pin(shared.open(deadline)).await {
                Ok(session) => session,
                Err(error) => {
                    Handle::current().spawn(async move {
                        sleep(jittered(REFUSED_PAUSE, 0.75..1.25)).await;
                        drop(hold);
                    });
                    return Err(error);
                }
            },
            Err(_) => return Err(Error::NotConnected(sqlx::Error::PoolTimedOut)),
        };
        Ok(Lease { session: Some(session), hold: Some(hold) })
    }

    /// Returns the numbers of sessions in use and of idle ones. Closes those that have been idle for long.
    pub(super) fn count(&self) -> (usize, usize) {
        let mut idle = lock(&self.shared.idle);
        idle.retain(|session| session.idle_time() < MAX_IDLE_TIME);
        let in_use = self.shared.settings.connections as usize - self.shared.permits.available_permits();
        (in_use, idle.len())
    }

    /// Drops the idle sessions.
    pub(super) fn drop_idle(&self) {
        self.shared.drop_idle();
    }

    /// Closes every session, waiting for those in use.
    pub(super) async fn close(&self) {
        self.shared.permits.close();
        self.shared.in_use.close();
        self.shared.in_use.wait().await;
        let idle = std::mem::take(&mut *lock(&self.shared.idle));
        for session in idle {
            session.close().await;
        }
    }
}

impl Shared {
    async fn permit(&self, deadline: Instant) -> Result<OwnedSemaphorePermit, Error> {
        let error = match timeout_at(deadline, self.permits.clone().acquire_owned()).await {
            Ok(Ok(permit)) => return Ok(permit),
            Ok(Err(_)) => sqlx::Error::PoolClosed,
            Err(_) => sqlx::Error::PoolTimedOut,
        };
        Err(Error::NotConnected(error))
    }

    /// Returns an idle session that still answers.
    async fn take_idle(&self) -> Option<Session> {
        loop {
            let mut session = lock(&self.idle).pop()?;
            if session.age() > MAX_AGE {
                session.close().await;
            } else if session.is_usable().await {
                return Some(session);
            } else {
                // The others have been idle for longer.
                self.drop_idle();
            }
        }
    }

    fn drop_idle(&self) {
        drop(std::mem::take(&mut *lock(&self.idle)));
    }

    /// Opens a session, trying again until the deadline while the server is starting or has no room.
    async fn open(&self, deadline: Instant) -> Result<Session, Error> {
        let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(500));
        let too_slow = io::Error::new(io::ErrorKind::TimedOut, "the server did not complete a login in time");
        let mut last = Error::NotConnected(too_slow.into());
        loop {
            match timeout_at(deadline, self.settings.session()).await {
                Ok(Ok(session)) => return Ok(session),
                Ok(Err(error)) if error::may_accept_soon(&error) => last = error,
                Ok(Err(error)) => return Err(error),
                Err(_) => return Err(last),
            }
            let pause = backoff.next_pause();
            if Instant::now() + pause >= deadline {
                return Err(last);
            }
            sleep(pause).await;
        }
    }
}

/// The right to one session.
#[derive(Debug)]
struct Hold {
    shared: Arc<Shared>,
    permit: OwnedSemaphorePermit,
    _token: TaskTrackerToken,
}

impl Hold {
    fn put_back(self, mut session: Session) {
        session.mark_used();
        // Before the permit is released.
        lock(&self.shared.idle).push(session);
        drop(self.permit);
    }

    async fn end(self, session: Session) {
        if let Some(session) = self.shared.canceller.end(session).await {
            self.put_back(session);
        }
    }
}

/// A session in use. One whose call timed out, or whose caller has gone, is put back once the call has ended, if that happens
/// in time, and is ended otherwise: many callers that give up early must not make the database accept many new connections,
/// too. Each counts as in use until then.
#[derive(Debug)]
pub(super) struct Lease {
    /// Present until the call has ended.
    session: Option<Session>,
    hold: Option<Hold>,
}

impl Lease {
    pub(super) fn session(&mut self) -> Result<&mut Session, Error> {
        // Always present: it is taken when the lease ends.
        self.session.as_mut().ok_or(Error::NotConnected(sqlx::Error::PoolClosed))
    }

    /// Ends the call.
    pub(super) fn end<T>(mut self, outcome: Result<T, Error>) -> Result<T, Error> {
        if let Some((session, hold)) = self.session.take().zip(self.hold.take()) {
            match &outcome {
                Err(Error::Timeout { .. }) => drop(Handle::current().spawn(hold.end(session))),
                Err(error) if error.ends_session() => hold.shared.drop_idle(),
                _ => hold.put_back(session),
            }
        }
        outcome
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let (Some((mut session, hold)), Ok(runtime)) =
            (self.session.take().zip(self.hold.take()), Handle::try_current())
        else {
            return;
        };
        // Outside of the lifecycle: it ends by itself, and closing the pool waits for it.
        runtime.spawn(async move {
            if session.answers_within(hold.shared.settings.timeout).await {
                hold.put_back(session);
            } else {
                hold.end(session).await;
            }
        });
    }
}
