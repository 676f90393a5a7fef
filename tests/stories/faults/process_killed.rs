//! message-service is killed with SIGKILL during sends, repeatedly.

use std::time::Duration;

use parlance_checker::{Recorder, Violation};
use tokio::sync::watch;

use super::load::{Load, Subscriber, check_history, read_logs};
use crate::support::{Process, World, channel_to, group, send_as};

const CONVERSATIONS: [&str; 3] = ["g", "h", "i"];

/// Kills a process, with a planted bug if one is named, under load; returns the number of acknowledged messages and every
/// broken promise.
pub(super) async fn killed_under_load(
    bug: Option<&str>,
    kills: usize,
    senders: usize,
    patience: Duration,
) -> (usize, Vec<Violation>) {
    let world = World::new().await;
    world.users(&["ann", "ben"]).await;
    for id in CONVERSATIONS {
        world.create(group(id, "ann", &["ben"])).await;
    }
    let (url, users) = (world.database.url(), world.user_service.address().to_string());
    let mut process = Process::message_service_with(bug, None, &url, &users, &[]).await;
    let (moving, at) = watch::channel(channel_to(process.address()));
    let recorder = Recorder::default();
    let subscribers = CONVERSATIONS.map(|id| (id, Subscriber::begin(&recorder, "ben", id, &at)));
    let load = Load::begin(&recorder, "load", senders, &CONVERSATIONS, &at);
    for round in 0..kills {
        // At a different moment of the load each time.
        load.wait_for(20 + round * 7 % 50).await;
        process.kill();
        process = Process::message_service_with(bug, None, &url, &users, &[]).await;
        moving.send_replace(channel_to(process.address()));
    }
    load.wait_for(20).await;
    let account = load.end().await;
    let logs = read_logs(&world.messages(), &CONVERSATIONS).await;
    if bug.is_none() {
        // Every retry returns the original.
        for (request_id, message) in account.iter().take(200) {
            let again = send_as(request_id, &message.conversation_id, "ann", &message.text);
            let repeat = process.messages().send_message(again).await.unwrap().into_inner();
            assert_eq!((repeat.duplicate, repeat.message.as_ref()), (true, Some(message)));
        }
    }
    (account.len(), check_history(&recorder, subscribers.into(), &logs, patience).await)
}
