//! message-service is killed with SIGKILL in the middle of sends, again and again. `PARLANCE_KILLS` says how often.

use std::time::Duration;

use parlance_checker::{Recorder, Violation};
use tokio::sync::watch;

use super::load::{Follower, Load, hold, kept, read_logs};
use crate::support::{PATIENCE, Process, World, channel_to, group, send_as};

/// Rounds of an ordinary run.
const KILLS: usize = 10;

const CONVERSATIONS: [&str; 3] = ["g", "h", "i"];

fn kills() -> usize {
    std::env::var("PARLANCE_KILLS").map_or(KILLS, |text| text.parse().expect("PARLANCE_KILLS is a number"))
}

/// Kills a process, with a bug on purpose if one is named, under load; gives every broken promise.
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
    let followers = CONVERSATIONS.map(|id| (id, Follower::begin(&recorder, "ben", id, &at)));
    let load = Load::begin(&recorder, "load", 48, &CONVERSATIONS, &at);
    for round in 0..kills {
        // At another moment of the load each time.
        load.more(20 + round * 7 % 50).await;
        process.kill();
        process = Process::message_service_with(bug, None, &url, &users, &[]).await;
        moving.send_replace(channel_to(process.address()));
    }
    load.more(20).await;
    let account = load.end().await;
    let logs = read_logs(&world.messages(), &CONVERSATIONS).await;
    if bug.is_none() {
        // Every retry answers the same.
        for (request_id, message) in account.iter().take(200) {
            let again = send_as(request_id, &message.conversation_id, "ann", &message.text);
            let repeat = process.messages().send_message(again).await.unwrap().into_inner();
            assert_eq!((repeat.duplicate, repeat.message.as_ref()), (true, Some(message)));
        }
    }
    hold(&recorder, followers.into(), &logs, patience).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_in_the_middle_of_sends_nothing_acknowledged_is_lost_or_doubled() {
    kept(&killed_under_load(None, kills(), PATIENCE).await);
}
