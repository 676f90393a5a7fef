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
    /// `RATE_LIMITED` within 5 s of the last one.
    pub(super) fn begin(
        &mut self,
        frame_id: u64,
        context: &Context,
        actor: Actor,
        token: String,
        permit: OwnedSemaphorePermit,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let now = Instant::now();
        if let Some(left) = self.begun_at.and_then(|at| (at + PAUSE).checked_duration_since(now))
            && !left.is_zero()
        {
            return Err(too_soon(left));
        }
        self.begun_at = Some(now);
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
}

fn too_soon(left: Duration) -> Failure {
    Failure::of(Reason::RateLimited, "a session takes another token once in 5 s; it goes on with the one that it has")
        .quota("session", "renewals of the token")
        .with("limit", "1 in 5 s")
        .with("scope", "session")
        .retry_after(left)
}
