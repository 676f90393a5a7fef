//! The refusals that clients of `Chat` have not received: bounded in bytes for a session, whose reading then pauses, and for all sessions
//! of the process, beyond which a session ends. Refusals also use the processor time of their connection.

use std::{sync::Arc, time::Duration};

use service_kit::{
    failure::{Failure, Reason},
    time_share::TimeShare,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The most bytes of one session.
const MAX_BYTES_OF_SESSION: usize = 64 * 1024;

/// The most bytes of all sessions.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// The memory of a waiting refusal beside its content, about.
const OVERHEAD_BYTES: usize = 128;

/// The time to refuse a frame, about.
const TIME: Duration = Duration::from_micros(5);

/// The bytes of all sessions. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct AllRefusals(Arc<Semaphore>);

/// The bytes of one session.
pub(super) struct Refusals {
    of_session: Arc<Semaphore>,
    of_all: AllRefusals,
    time: TimeShare,
}

/// The bytes of one refusal, until this is dropped.
pub(super) struct Waiting {
    _of_session: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Default for AllRefusals {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_BYTES)))
    }
}

impl Refusals {
    /// Creates the bytes of a session, whose refusals use this share of processor time.
    pub(super) fn new(of_all: &AllRefusals, time: TimeShare) -> Self {
        Self { of_session: Arc::new(Semaphore::new(MAX_BYTES_OF_SESSION)), of_all: of_all.clone(), time }
    }

    /// Waits until the session may have another refusal, of this many bytes.
    ///
    /// # Errors
    /// `OVERLOADED` if the refusals of all sessions fill their room: then the session must end.
    pub(super) async fn room_for(&self, bytes: usize) -> Result<Waiting, Failure> {
        let cost = (bytes + OVERHEAD_BYTES).min(MAX_BYTES_OF_SESSION) as u32;
        let overloaded = || {
            let text = "too many refusals wait to be received; the session ends";
            Failure::of(Reason::Overloaded, text).quota("server", "bytes of refusals that wait to be received")
        };
        let of_session = self.of_session.clone().acquire_many_owned(cost).await.map_err(|_| overloaded())?;
        self.time.turn(TIME).await;
        let of_all = self.of_all.0.clone().try_acquire_many_owned(cost).map_err(|_| overloaded())?;
        Ok(Waiting { _of_session: of_session, _of_all: of_all })
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_session_waits_for_its_own_room_and_ends_when_that_of_all_is_full() {
        let all = AllRefusals::default();
        let sessions: Vec<_> =
            (0..=MAX_BYTES / MAX_BYTES_OF_SESSION).map(|_| Refusals::new(&all, TimeShare::new(1.0))).collect();
        let (last, full) = sessions.split_last().unwrap();
        let mut waiting = Vec::new();
        for session in full {
            waiting.push(session.room_for(MAX_BYTES_OF_SESSION).await.unwrap());
            assert!(session.room_for(1).now_or_never().is_none());
        }
        assert!(last.room_for(1).await.is_err());
        waiting.pop();
        last.room_for(1).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_waits_for_the_processor_time_of_its_connection() {
        let (all, time) = (AllRefusals::default(), TimeShare::new(1.0));
        let session = Refusals::new(&all, time.clone());
        time.turn(Duration::from_hours(1)).await;
        assert!(session.room_for(1).now_or_never().is_none());
        assert!(Refusals::new(&all, TimeShare::new(1.0)).room_for(1).now_or_never().is_some());
    }
}
