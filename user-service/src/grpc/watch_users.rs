//! `WatchUsers`: every change of a user, from now on.

use std::{pin::Pin, time::Duration};

use futures_util::{Stream, stream};
use parlance::user::v1::{
    Heartbeat, Ready, TokenExpiring, WatchUsersRequest, WatchUsersResponse, watch_users_response::Item,
};
use service_kit::{
    auth::{Follow, Moment, Tenure},
    failure::Failure,
    server::{Leaving, note_cause},
};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status};

use super::{authorise, context::Context, convert, status};
use crate::{
    authorised::Authorised,
    changes::{Change, Watcher},
    domain::Rpc,
};

/// The time between heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// The time to the next attempt at a heartbeat that cannot be sent, because changes cannot be polled.
const HEARTBEAT_RETRY: Duration = Duration::from_millis(250);

/// The stream of a client.
pub(super) type Items = Pin<Box<dyn Stream<Item = Result<WatchUsersResponse, Status>> + Send>>;

pub(super) async fn answer(context: &Context, request: Request<WatchUsersRequest>) -> Result<Items, Failure> {
    let authorised = authorise::caller(context, Rpc::WatchUsers, request.extensions()).await?;
    context.store.check_open()?;
    let watch = Watch {
        authorised,
        watcher: context.changes.watch(authorised),
        heartbeat_at: Instant::now() + HEARTBEAT,
        leaving: Leaving::of(request.extensions()),
        tenure: Tenure::of(request.extensions()).follow(),
        is_over: false,
    };
    Ok(Box::pin(stream::unfold(watch, |mut watch| async move {
        let item = watch.next().await?;
        Some((item, watch))
    })))
}

/// The state of a stream.
struct Watch {
    authorised: Authorised,
    watcher: Watcher,
    heartbeat_at: Instant,
    /// Signals that the connection is closing.
    leaving: CancellationToken,
    tenure: Follow,
    is_over: bool,
}

impl Watch {
    async fn next(&mut self) -> Option<Result<WatchUsersResponse, Status>> {
        if self.is_over {
            return None;
        }
        let item = loop {
            tokio::select! {
                biased;
                () = self.leaving.cancelled() => return Some(Err(self.drain())),
                moment = self.tenure.next() => match moment {
                    Moment::Expiring(at) => {
                        let expire_time = Some(prost_types::Timestamp { seconds: at, nanos: 0 });
                        break Item::TokenExpiring(TokenExpiring { expire_time });
                    }
                    Moment::Ended(failure) => return Some(Err(self.end_with(failure))),
                },
                // Before the heartbeat, which means that all changes have been sent.
                change = self.watcher.next() => break match change {
                    Some(Change::Ready) => Item::Ready(Ready {}),
                    Some(Change::Changed(user)) => Item::ChangedUser(convert::user::to_wire(self.authorised, (*user).clone())),
                    None => return Some(Err(self.drain())),
                },
                () = sleep_until(self.heartbeat_at) => {
                    let is_current = self.watcher.is_current();
                    self.heartbeat_at = Instant::now() + if is_current { HEARTBEAT } else { HEARTBEAT_RETRY };
                    if is_current {
                        break Item::Heartbeat(Heartbeat {});
                    }
                }
            }
        };
        Some(Ok(WatchUsersResponse { item: Some(item) }))
    }

    fn drain(&mut self) -> Status {
        self.end_with(status::draining())
    }

    fn end_with(&mut self, failure: Failure) -> Status {
        self.is_over = true;
        let status = failure.into();
        note_cause(&status);
        status
    }
}
