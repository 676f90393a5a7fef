//! `WatchUsers`: every change of a user, from now on.

use std::{pin::Pin, time::Duration};

use futures_util::{Stream, stream};
use parlance::user::v1::{Heartbeat, Ready, WatchUsersRequest, WatchUsersResponse, watch_users_response::Item};
use service_kit::{
    failure::Failure,
    server::{Leaving, note_cause},
};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status};

use super::{authorise, convert, service::Service, status};
use crate::changes::{Change, Watcher};

/// From one heartbeat to the next.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// One that cannot be given, because changes cannot be looked for, is tried again after this.
const HEARTBEAT_AGAIN: Duration = Duration::from_millis(250);

/// What the client gets.
pub(super) type Items = Pin<Box<dyn Stream<Item = Result<WatchUsersResponse, Status>> + Send>>;

pub(super) fn answer(service: &Service, request: &Request<WatchUsersRequest>) -> Result<Items, Failure> {
    authorise::admin(request.extensions())?;
    service.store.check_open()?;
    let watch = Watch {
        watcher: service.changes.watch(),
        heartbeat_at: Instant::now() + HEARTBEAT,
        leaving: Leaving::of(request.extensions()),
        is_over: false,
    };
    Ok(Box::pin(stream::unfold(watch, |mut watch| async move {
        let item = watch.next().await?;
        Some((item, watch))
    })))
}

/// One client's stream.
struct Watch {
    watcher: Watcher,
    heartbeat_at: Instant,
    /// The connection is being sent away.
    leaving: CancellationToken,
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
                // Before the heartbeat, which says that there is nothing more to tell.
                change = self.watcher.next() => break match change {
                    Some(Change::Ready) => Item::Ready(Ready {}),
                    Some(Change::Changed(user)) => Item::ChangedUser(convert::user((*user).clone())),
                    None => return Some(Err(self.drain())),
                },
                () = sleep_until(self.heartbeat_at) => {
                    let is_current = self.watcher.is_current();
                    self.heartbeat_at = Instant::now() + if is_current { HEARTBEAT } else { HEARTBEAT_AGAIN };
                    if is_current {
                        break Item::Heartbeat(Heartbeat {});
                    }
                }
            }
        };
        Some(Ok(WatchUsersResponse { item: Some(item) }))
    }

    fn drain(&mut self) -> Status {
        self.is_over = true;
        let status = status::draining().into();
        note_cause(&status);
        status
    }
}
