//! Backend connections are killed under load, repeatedly: clients have to retry at most, and nothing is lost or
//! duplicated.

use std::time::Duration;

use parlance_checker::{Recorder, Violation};
use tokio::sync::watch;

use super::load::{Load, Subscriber, assert_kept, check_history, read_logs};
use crate::support::{PATIENCE, Process, World, channel_to, group};

const CONVERSATIONS: [&str; 3] = ["g", "h", "i"];

/// Kills the connections of a process, with a planted bug if one is named, under load; returns every broken promise.
pub(super) async fn connections_killed(bug: Option<&str>, rounds: usize, patience: Duration) -> Vec<Violation> {
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
    let load = Load::begin(&recorder, "load", 24, &CONVERSATIONS, &at);
    let mut outside = world.database.connect().await;
    for _ in 0..rounds {
        load.wait_for(30).await;
        let (killed,): (i64,) = sqlx::query_as(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
             WHERE datname = current_database() AND application_name LIKE 'parlance%' AND pid <> pg_backend_pid()",
        )
        .fetch_one(&mut outside)
        .await
        .unwrap();
        assert!(killed > 0);
    }
    load.wait_for(30).await;
    load.end().await;
    let logs = read_logs(&world.messages(), &CONVERSATIONS).await;
    check_history(&recorder, subscribers.into(), &logs, patience).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_killed_under_load_lose_nothing() {
    assert_kept(&connections_killed(None, 15, PATIENCE).await);
}
