//! The stream to one client: the items of its subscription, heartbeats, and a status with the reason of its end.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use service_kit::{
    auth::{Follow, Moment, Tenure},
    backoff,
    failure::{Failure, Reason},
    server::{Leaving, note_cause},
};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::{Extensions, Status};

use super::{
    frames::{self, Frames},
    named_cursors::Named,
};
use crate::{
    directory::OpenStream,
    domain::refusal::Refusal,
    log::subscription::{Ending, Item, Subscription},
};

/// The silence after which a heartbeat is sent; jittered up to half as much longer.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(18);

/// The longest retry delay of a drained client, which is random up to this.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(1);

/// A subscription that has begun.
pub(super) struct Begun {
    pub(super) subscription: Subscription,
    /// What its client has named, until the client has received the notices of the beginning.
    pub(super) named: Option<Named>,
}

/// What ends a stream from outside.
pub(super) struct Ends {
    /// Cancelled when the connection drains.
    draining: CancellationToken,
    /// The end of the token.
    tenure: Follow,
}

impl Ends {
    /// Returns those of a call.
    pub(super) fn of(extensions: &Extensions) -> Self {
        Self { draining: Leaving::of(extensions), tenure: Tenure::of(extensions).follow() }
    }
}

/// The encoded items of one client. At most one item is buffered here.
pub(super) struct Outgoing {
    /// `None` while only heartbeats are sent.
    begun: Option<Begun>,
    /// The stream is of one conversation and ends with it.
    is_of_one: bool,
    heartbeat_at: Instant,
    /// The registration of the stream with its user.
    open_stream: Option<OpenStream>,
    ends: Ends,
    state: State,
}

enum State {
    /// The conversations that are closed from the beginning come next, then a heartbeat: a client that has received it knows
    /// that its other positions are of the epoch that it names.
    Beginning,
    Open,
    /// The next item is this status.
    Ending(Status),
    Ended,
}

impl Outgoing {
    /// Creates a stream of heartbeats, until [`begin`](Self::begin).
    pub(super) fn new(ends: Ends) -> Self {
        Self {
            begun: None,
            is_of_one: false,
            open_stream: None,
            heartbeat_at: next_heartbeat(),
            ends,
            state: State::Open,
        }
    }

    /// Creates the stream of one conversation, and ends with it.
    pub(super) fn of_one(subscription: Subscription, open_stream: OpenStream, ends: Ends) -> Self {
        let mut of_one = Self::of_all(Begun { subscription, named: None }, open_stream, ends);
        of_one.is_of_one = true;
        of_one
    }

    /// Creates the stream of several conversations, each of which may end on its own.
    pub(super) fn of_all(begun: Begun, open_stream: OpenStream, ends: Ends) -> Self {
        Self { begun: Some(begun), open_stream: Some(open_stream), state: State::Beginning, ..Self::new(ends) }
    }

    /// Starts the items of a stream that only sent heartbeats.
    pub(super) fn begin(&mut self, begun: Option<Begun>, open_stream: OpenStream) {
        self.state = if begun.is_some() { State::Beginning } else { State::Open };
        self.begun = begun;
        self.open_stream = Some(open_stream);
    }

    /// Converts it into a stream.
    pub(super) fn into_stream(self) -> Frames {
        Box::pin(stream::unfold(self, |mut outgoing| async move {
            let item = outgoing.next().await?;
            Some((item, outgoing))
        }))
    }

    /// Returns the next item, the status that ends the stream, or `None` after it. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Option<Result<Bytes, Status>> {
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Beginning => {
                if let Some(notice) = self.begun.as_mut().and_then(|begun| begun.subscription.take_notice()) {
                    self.state = State::Beginning;
                    return Some(self.encode(notice));
                }
                self.state = State::Open;
                if let Some(begun) = &mut self.begun {
                    begun.named = None;
                }
                return Some(Ok(self.heartbeat()));
            }
            State::Open => self.state = State::Open,
            State::Ending(status) => {
                note_cause(&status);
                return Some(Err(status));
            }
            State::Ended => return None,
        }
        let next_item = async {
            match &mut self.begun {
                Some(begun) => begun.subscription.next().await,
                None => std::future::pending().await,
            }
        };
        let user_ended = async {
            match &self.open_stream {
                Some(open_stream) => open_stream.ended().await,
                None => std::future::pending().await,
            }
        };
        let item = tokio::select! {
            biased;
            () = self.ends.draining.cancelled() => return Some(Ok(self.drain())),
            moment = self.ends.tenure.next() => return Some(match moment {
                Moment::Expiring(at) => Ok(frames::token_expiring(at)),
                Moment::Ended(failure) => Err(self.end_with(failure)),
            }),
            refusal = user_ended => {
                return Some(Err(self.end_with(Failure::from(refusal))));
            }
            item = next_item => item,
            () = sleep_until(self.heartbeat_at) => {
                return Some(Ok(self.heartbeat()));
            }
        };
        self.heartbeat_at = next_heartbeat();
        Some(self.encode(item))
    }

    fn end_with(&mut self, failure: Failure) -> Status {
        let status = Status::from(failure);
        self.state = State::Ended;
        note_cause(&status);
        status
    }

    fn heartbeat(&mut self) -> Bytes {
        self.heartbeat_at = next_heartbeat();
        frames::heartbeat(self.begun.as_ref().and_then(|begun| begun.subscription.epoch()))
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
                    self.state = State::Ended;
                    note_cause(&status);
                    return Err(status);
                }
                Ok(frames::closed(&conversation_id, &status))
            }
            Item::EpochRenamed => Ok(self.heartbeat()),
            Item::EpochEnded => {
                let delay = backoff::jittered(MAX_RETRY_DELAY, 0.0..1.0);
                let failure = Failure::of(Reason::DatabaseUnavailable, "the database may have been set back; resume");
                self.state = State::Ended;
                Err(failure.retry_after(delay).into())
            }
        }
    }

    fn drain(&mut self) -> Bytes {
        let delay = backoff::jittered(MAX_RETRY_DELAY, 0.0..1.0);
        self.state = State::Ending(Failure::from(Refusal::Draining).retry_after(delay).into());
        frames::draining(delay)
    }
}

fn next_heartbeat() -> Instant {
    Instant::now() + backoff::jittered(HEARTBEAT_INTERVAL, 1.0..1.5)
}
