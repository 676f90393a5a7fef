//! What goes out to one client: what its subscription tells, signs of life, and an end that says why.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use service_kit::{failure::Failure, server::note_cause};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{frames, streams::Frames};
use crate::{
    directory::OpenStream,
    domain::refusal::Refusal,
    log::subscription::{Ending, Item, Subscription},
};

/// Silence is broken after this long, at least; jittered up to half as much again.
const HEARTBEAT: Duration = Duration::from_secs(18);

/// A client sent away comes back after a jittered time up to this.
const COME_BACK: Duration = Duration::from_secs(1);

/// One client's items, encoded. It holds what was taken from the log last and not yet sent, and nothing else.
pub(super) struct Outgoing {
    /// `None` while there is nothing to tell but signs of life.
    subscription: Option<Subscription>,
    /// One conversation is all there is: its end is the end.
    is_of_one: bool,
    heartbeat_at: Instant,
    /// On whose behalf it is.
    open_stream: Option<OpenStream>,
    /// The connection is being sent away.
    leaving: CancellationToken,
    end: End,
}

/// How far a stream is from its end.
enum End {
    NotYet,
    With(Status),
    Past,
}

impl Outgoing {
    /// Nothing but signs of life, until there is something to tell.
    pub(super) fn new(leaving: CancellationToken) -> Self {
        Self {
            subscription: None,
            is_of_one: false,
            open_stream: None,
            heartbeat_at: next_heartbeat(),
            leaving,
            end: End::NotYet,
        }
    }

    /// Of one conversation, which ends it.
    pub(super) fn of_one(subscription: Subscription, open_stream: OpenStream, leaving: CancellationToken) -> Self {
        let mut of_one = Self::of_all(Some(subscription), open_stream, leaving);
        of_one.is_of_one = true;
        of_one
    }

    /// Of several conversations, each of which may end by itself.
    pub(super) fn of_all(
        subscription: Option<Subscription>,
        open_stream: OpenStream,
        leaving: CancellationToken,
    ) -> Self {
        Self { subscription, open_stream: Some(open_stream), ..Self::new(leaving) }
    }

    /// The same, of one that had nothing to tell so far.
    pub(super) fn begin(&mut self, subscription: Option<Subscription>, open_stream: OpenStream) {
        self.subscription = subscription;
        self.open_stream = Some(open_stream);
    }

    /// The same as a stream.
    pub(super) fn into_stream(self) -> Frames {
        Box::pin(stream::unfold(self, |mut outgoing| async move {
            let item = outgoing.next().await?;
            Some((item, outgoing))
        }))
    }

    /// What comes next: an item, the status that ends it, or nothing any more. May be dropped at any time.
    pub(super) async fn next(&mut self) -> Option<Result<Bytes, Status>> {
        match std::mem::replace(&mut self.end, End::Past) {
            End::NotYet => self.end = End::NotYet,
            End::With(status) => {
                note_cause(&status);
                return Some(Err(status));
            }
            End::Past => return None,
        }
        let told = async {
            match &mut self.subscription {
                Some(subscription) => subscription.next().await,
                None => std::future::pending().await,
            }
        };
        let ended = async {
            match &self.open_stream {
                Some(open_stream) => open_stream.ended().await,
                None => std::future::pending().await,
            }
        };
        let item = tokio::select! {
            biased;
            () = self.leaving.cancelled() => return Some(Ok(self.drain())),
            why = ended => {
                let status = Status::from(Failure::from(why));
                self.end = End::Past;
                note_cause(&status);
                return Some(Err(status));
            }
            item = told => item,
            () = sleep_until(self.heartbeat_at) => {
                self.heartbeat_at = next_heartbeat();
                return Some(Ok(frames::heartbeat()));
            }
        };
        self.heartbeat_at = next_heartbeat();
        Some(self.encode(item))
    }

    fn encode(&mut self, item: Item) -> Result<Bytes, Status> {
        match item {
            Item::Event(bytes) => Ok(bytes),
            Item::CaughtUp { conversation_id, position } => Ok(frames::caught_up(&conversation_id, position)),
            Item::AllCaughtUp => Ok(frames::all_caught_up()),
            Item::Truncated { conversation_id, oldest_sequence } => {
                Ok(frames::truncated(&conversation_id, oldest_sequence))
            }
            Item::Closed { conversation_id, why } => {
                let status = Status::from(match why {
                    Ending::Refused(refusal) => Failure::from(refusal),
                    Ending::Failed(error) => Failure::from(error),
                });
                if self.is_of_one {
                    self.end = End::Past;
                    note_cause(&status);
                    return Err(status);
                }
                Ok(frames::closed(&conversation_id, &status))
            }
        }
    }

    fn drain(&mut self) -> Bytes {
        let delay = COME_BACK.mul_f64(fastrand::f64());
        self.end = End::With(Failure::from(Refusal::Draining).retry_after(delay).into());
        frames::draining(delay)
    }
}

fn next_heartbeat() -> Instant {
    Instant::now() + HEARTBEAT.mul_f64(1.0 + fastrand::f64() / 2.0)
}
