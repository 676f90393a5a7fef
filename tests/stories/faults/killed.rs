//! message-service is killed with SIGKILL in the middle of sends, again and again. `PARLANCE_KILLS` says how often.

use tokio::sync::watch;

use super::load::{Load, check, read_logs};
use crate::support::{Process, Reader, World, channel_to, group, send_as};

/// Rounds of an ordinary run.
const KILLS: usize = 10;

const CONVERSATIONS: [&str; 3] = ["g", "h", "i"];

fn kills() -> usize {
    std::env::var("PARLANCE_KILLS").map_or(KILLS, |text| text.parse().expect("PARLANCE_KILLS is a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_in_the_middle_of_sends_nothing_acknowledged_is_lost_or_doubled() {
    let world = World::new().await;
    world.users(&["ann", "ben"]).await;
    for id in CONVERSATIONS {
        world.create(group(id, "ann", &["ben"])).await;
    }
    let user_service = world.user_service.address().to_string();
    let mut process = Process::message_service(&world.database.url(), &user_service, &[]).await;
    let (moving, at) = watch::channel(channel_to(process.address()));
    let load = Load::begin("load", 48, &CONVERSATIONS, &at);
    // A reader that comes back with the sequence it has: exactly once, whatever happened to its stream.
    let mut position = 0;
    for round in 0..kills() {
        let mut reader = Reader::open(&process.messages(), "g", "ben", Some(position)).await.unwrap();
        // At another moment of the load each time.
        load.more(20 + round * 7 % 50).await;
        process.kill();
        position += reader.end().await.0.len() as i64;
        process = Process::message_service(&world.database.url(), &user_service, &[]).await;
        moving.send_replace(channel_to(process.address()));
    }
    load.more(20).await;
    let account = load.end().await;
    let logs = read_logs(&world.messages(), &CONVERSATIONS).await;
    check(&logs, &account, &["load"]);
    assert!(position <= logs[0].len() as i64, "more was delivered than is stored");

    // Every retry answers the same sequence.
    for (request_id, message) in account.iter().take(200) {
        let again = send_as(request_id, &message.conversation_id, "ann", &message.text);
        let repeat = process.messages().send_message(again).await.unwrap().into_inner();
        assert_eq!((repeat.duplicate, repeat.message.as_ref()), (true, Some(message)));
    }
}
