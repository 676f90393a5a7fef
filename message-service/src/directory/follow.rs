//! Follows the changes that user-service tells of, from one replica or another, for as long as the process lives.

use std::time::{Duration, Instant};

use parlance::user::v1::{
    WatchUsersRequest, WatchUsersResponse, user_service_client::UserServiceClient, watch_users_response::Item,
};
use service_kit::lifecycle::Lifecycle;
use tokio::time::{sleep, timeout};
use tonic::{Code, Request, Status};

use super::{Directory, feed::MAX_SILENCE};
use crate::domain::ids::UserId;

/// Before the first attempt after one that was ready; doubled after each that was not; jittered down to half.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(2);

/// How a watch ended.
#[derive(Debug)]
struct End {
    was_ready: bool,
    cause: Status,
}

/// Watches, again and again, until the lifecycle is closing.
pub(super) async fn run(directory: Directory, lifecycle: Lifecycle) {
    let work = async {
        let mut pause = FIRST_PAUSE;
        let mut failing = false;
        loop {
            let End { was_ready, cause } = follow(&directory, failing).await;
            directory.lost();
            if was_ready || !failing {
                tracing::info!(cause = &cause as &dyn std::error::Error, "changes of users are not told of");
            }
            failing = true;
            pause = if was_ready { FIRST_PAUSE } else { (pause * 2).min(MAX_PAUSE) };
            sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        }
    };
    lifecycle.closing().run_until_cancelled(work).await;
}

/// Watches once, until the watch ends or falls silent.
async fn follow(directory: &Directory, was_failing: bool) -> End {
    let mut was_ready = false;
    let Some(peer) = directory.shared.asker.peer() else {
        return End { was_ready, cause: Status::unavailable("the host name of user-service has no address") };
    };
    let mut client = UserServiceClient::new(peer.channel());
    let begun = timeout(MAX_SILENCE, client.watch_users(Request::new(WatchUsersRequest {}))).await;
    let mut items = match begun.unwrap_or_else(|_| Err(silence())) {
        Ok(response) => response.into_inner(),
        Err(cause) => {
            // Another replica may be better.
            peer.note(cause.code() != Code::Unavailable);
            return End { was_ready, cause };
        }
    };
    loop {
        let heard = timeout(MAX_SILENCE, items.message()).await;
        match heard.unwrap_or_else(|_| Err(silence())) {
            Ok(Some(WatchUsersResponse { item })) => {
                if matches!(item, Some(Item::Ready(_))) && !std::mem::replace(&mut was_ready, true) && was_failing {
                    tracing::info!("changes of users are told of again");
                }
                heed(directory, item).await;
            }
            Ok(None) => return End { was_ready, cause: Status::unavailable("the watch ended") },
            Err(cause) => return End { was_ready, cause },
        }
    }
}

fn silence() -> Status {
    Status::unavailable(format!("nothing was heard for {MAX_SILENCE:?}"))
}

async fn heed(directory: &Directory, item: Option<Item>) {
    let now = Instant::now();
    match item {
        Some(Item::Ready(_)) => directory.ready(now),
        Some(Item::ChangedUser(user)) => directory.changed(UserId::from_storage(user.user_id), now).await,
        // A kind that was made after this binary is at least a sign of life.
        Some(Item::Heartbeat(_)) | None => directory.heard(now),
    }
}
