//! Receives the change notifications of user-service, from one replica or another, as long as the process runs.

use std::time::{Duration, Instant};

use parlance::user::v1::{
    WatchUsersRequest, WatchUsersResponse, user_service_client::UserServiceClient, watch_users_response::Item,
};
use service_kit::{backoff::Backoff, causes::causes, lifecycle::Lifecycle};
use tokio::time::timeout;
use tonic::{Code, Status, Streaming};

use super::{active_users::ActiveUsers, change_feed::MAX_SILENCE, client::UserClient, user_cache::UserCache};
use crate::domain::ids::UserId;

const RETRY: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));

/// The watch of user-service's changes, and their receivers.
pub(super) struct Watch {
    pub(super) client: UserClient,
    pub(super) cache: UserCache,
    pub(super) active_users: ActiveUsers,
}

/// The end of a watch.
#[derive(Debug)]
struct End {
    was_ready: bool,
    cause: Status,
}

impl Watch {
    /// Watches until the lifecycle is closing, and reconnects whenever the watch ends.
    pub(super) async fn run(self, lifecycle: Lifecycle) {
        let work = async {
            let mut backoff = RETRY;
            let mut failing = false;
            loop {
                let End { was_ready, cause } = self.watch_once(failing).await;
                self.cache.feed_disconnected();
                if was_ready || !failing {
                    tracing::info!(cause = causes(&cause), "user changes: not following");
                }
                failing = true;
                if was_ready {
                    backoff.reset();
                }
                backoff.wait().await;
            }
        };
        lifecycle.closing().run_until_cancelled(work).await;
    }

    /// Watches until the watch ends or is silent for too long.
    async fn watch_once(&self, was_failing: bool) -> End {
        let mut was_ready = false;
        let mut items = match self.begin().await {
            Ok(items) => items,
            Err(cause) => return End { was_ready, cause },
        };
        loop {
            let received = timeout(MAX_SILENCE, items.message()).await;
            match received.unwrap_or_else(|_| Err(silence())) {
                Ok(Some(WatchUsersResponse { item: Some(Item::TokenExpiring(_)) })) => {
                    // With a new token. If that fails, this one is good for a moment.
                    if let Ok(renewed) = self.begin().await {
                        items = renewed;
                    }
                }
                Ok(Some(WatchUsersResponse { item })) => {
                    if matches!(item, Some(Item::Ready(_))) && !std::mem::replace(&mut was_ready, true) && was_failing {
                        tracing::info!("user changes: following again");
                    }
                    self.apply(item).await;
                }
                Ok(None) => return End { was_ready, cause: Status::unavailable("the watch ended") },
                Err(cause) => return End { was_ready, cause },
            }
        }
    }

    async fn begin(&self) -> Result<Streaming<WatchUsersResponse>, Status> {
        let no_address = || Status::unavailable("the host name of user-service has no address");
        let replica = self.client.replica().ok_or_else(no_address)?;
        let request = self.client.request(WatchUsersRequest {}, None)?;
        let mut client = UserServiceClient::new(replica.channel());
        let started = timeout(MAX_SILENCE, client.watch_users(request)).await;
        let started = started.unwrap_or_else(|_| Err(silence()));
        // After a failure the next attempt prefers another replica.
        let started = started.inspect_err(|cause| replica.record(cause.code() != Code::Unavailable));
        Ok(started?.into_inner())
    }

    async fn apply(&self, item: Option<Item>) {
        let now = Instant::now();
        match item {
            Some(Item::Ready(_)) => {
                self.cache.feed_ready(now);
                self.active_users.recheck_all();
            }
            Some(Item::ChangedUser(user)) => {
                let user_id = UserId::from_storage(user.user_id);
                self.cache.user_changed(user_id.clone(), now).await;
                self.active_users.recheck(&user_id);
            }
            // A kind of a newer version is at least a sign of life.
            Some(Item::Heartbeat(_) | Item::TokenExpiring(_)) | None => self.cache.feed_heartbeat(now),
        }
    }
}

fn silence() -> Status {
    Status::unavailable(format!("no change or heartbeat for {MAX_SILENCE:?}"))
}
