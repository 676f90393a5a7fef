//! message-service is killed with SIGKILL during sends, repeatedly.

use std::time::Duration;

use parlance_checker::{Recorder, Violation};
use tokio::sync::watch;

use super::{
    load::{Load, Subscriber, check_history, read_logs},
    matrix::Fault,
};
use crate::support::{PATIENCE, Process, World, channel_to, group, send_as};

const CONVERSATIONS: [&str; 3] = ["g", "h", "i"];

/// Kills a process, with a planted bug if one is named, under load; returns every broken promise.
pub(super) async fn killed_under_load(bug: Option<&str>, kills: usize, patience: Duration) -> Vec<Violation> {
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
    let load = Load::begin(&recorder, "load", 48, &CONVERSATIONS, &at);
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
    check_history(&recorder, subscribers.into(), &logs, patience).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigkill_during_sends_neither_loses_nor_duplicates_acknowledged_messages() {
    let fault = Fault::begin("kill-message-service", 10);
    let violations = killed_under_load(None, fault.count(), PATIENCE).await;
    fault.end("48 senders, one send in flight each", &[], &violations);
}
