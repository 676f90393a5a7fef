//! Goes on with another token: the frame `authenticate`.

use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use service_kit::failure::{Failure, Reason};
use tokio::sync::OwnedSemaphorePermit;

use super::{super::context::Context, frame, reply::Reply};
use crate::actor::Actor;

/// The time between two renewals of one session.
const PAUSE: Duration = Duration::from_secs(5);

/// The renewals of one session, of which one runs at a time.
#[derive(Default)]
pub(super) struct Renewal {
    pub(super) running: Option<BoxFuture<'static, Reply>>,
    begun_at: Option<Instant>,
}

impl Renewal {
    /// Begins with a token; the reply follows.
    ///
    /// # Errors
    /// `RATE_LIMITED` within 5 s of the last one, and until that is answered.
    pub(super) fn begin(
        &mut self,
        frame_id: u64,
        context: &Context,
        actor: Actor,
        token: String,
        permit: OwnedSemaphorePermit,
        deadline: Instant,
    ) -> Result<(), Failure> {
        self.claim(Instant::now())?;
        let directory = context.directory.clone();
        self.running = Some(Box::pin(async move {
            let renewed = async {
                // Before the session goes on with it: it may be good and revoked.
                let renewed = actor.tenure().verify(&token).await?;
                directory.check_actor(actor.user_id(), renewed.issued_at(), &[], deadline).await?;
                actor.tenure().renew(renewed);
                Ok::<_, Failure>(())
            };
            let bytes = match renewed.await {
                Ok(()) => frame::renewed(frame_id),
                Err(failure) => frame::nack(frame_id, failure),
            };
            Reply::Item { bytes, _permit: permit }
        }));
        Ok(())
    }

    /// Takes the turn of this moment, unless one is running or the last one was a moment ago.
    fn claim(&mut self, now: Instant) -> Result<(), Failure> {
        let due = self.begun_at.map(|at| at + PAUSE).filter(|due| now < *due);
        match due {
            Some(due) => Err(too_soon(due - now)),
            // A running one is answered first: its answer must not be lost.
            None if self.running.is_some() => Err(too_soon(PAUSE)),
            None => {
                self.begun_at = Some(now);
                Ok(())
            }
        }
    }
}

fn too_soon(left: Duration) -> Failure {
    Failure::of(Reason::RateLimited, "a session takes another token once in 5 s; it goes on with the one that it has")
        .quota("session", "renewals of the token")
        .with("limit", "1 in 5 s")
        .with("scope", "session")
        .retry_after(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_renewal_runs_at_a_time_and_the_next_one_waits_for_its_answer_and_for_a_pause() {
        let (mut renewal, begun) = (Renewal::default(), Instant::now());
        renewal.claim(begun).unwrap();
        assert!(renewal.claim(begun + PAUSE / 2).is_err());
        renewal.running = Some(Box::pin(std::future::pending()));
        assert!(renewal.claim(begun + 2 * PAUSE).is_err());
        renewal.running = None;
        renewal.claim(begun + 2 * PAUSE).unwrap();
        assert!(renewal.claim(begun + 2 * PAUSE).is_err());
    }
}
