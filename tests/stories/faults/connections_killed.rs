//! Backend connections are killed under load, repeatedly: clients have to retry at most, and nothing is lost or
//! duplicated.

use std::time::Duration;

use parlance_checker::{Recorder, Violation};
use tokio::sync::{Mutex, watch};

use super::load::{Load, Subscriber, check_history, read_logs};
use crate::support::{PATIENCE, Process, World, channel_to, eventually, group};

const CONVERSATIONS: [&str; 3] = ["g", "h", "i"];

/// Kills the connections of a process, with a planted bug if one is named, under load; returns the number of acknowledged
/// messages and every broken promise.
pub(super) async fn connections_killed(
    bug: Option<&str>,
    rounds: usize,
    senders: usize,
    patience: Duration,
) -> (usize, Vec<Violation>) {
    let world = World::new().await;
    world.users(&["ann", "ben"]).await;
    for id in CONVERSATIONS {
        world.create(group(id, "ann", &["ben"])).await;
    }
    let (url, users) = (world.database.url(), world.user_service.address().to_string());
    let process = Process::message_service_with(bug, None, &url, &users, &["--writers", "2"]).await;
    let (_moving, at) = watch::channel(channel_to(process.address()));
    let recorder = Recorder::default();
    let subscribers = CONVERSATIONS.map(|id| (id, Subscriber::begin(&recorder, "ben", id, &at)));
    let load = Load::begin(&recorder, "load", senders, &CONVERSATIONS, &at);
    let outside = Mutex::new(world.database.connect().await);
    for _ in 0..rounds {
        load.wait_for(30).await;
        eventually(PATIENCE, || async {
            let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                WHERE datname = current_database() AND application_name LIKE 'parlance%' AND pid <> pg_backend_pid()";
            let (killed,): (i64,) = sqlx::query_as(kill).fetch_one(&mut *outside.lock().await).await.unwrap();
            if killed > 0 { Ok(()) } else { Err("no connection is open") }
        })
        .await;
    }
    load.wait_for(30).await;
    let acknowledged = load.end().await.len();
    let logs = read_logs(&world.messages(), &CONVERSATIONS).await;
    (acknowledged, check_history(&recorder, subscribers.into(), &logs, patience).await)
}
