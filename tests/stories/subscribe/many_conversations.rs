use futures_util::{StreamExt, stream};
use parlance::message::v1::SubscribeStart;

use super::{sequences, subscribe};
use crate::support::{Received, World, group, send};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_backlog_of_one_conversation_delays_no_other() {
    const MANY: usize = 2_000;
    let world = World::with_group().await;
    world.create(group("h", "ann", &["ben"])).await;
    let text = "x".repeat(1_000);
    let sends = stream::iter(0..MANY).map(async |_| world.try_send(send("g", "ann", &text)).await.unwrap());
    sends.buffer_unordered(64).collect::<Vec<_>>().await;
    world.send("h", "ann", "short").await;
    let mut inbox = subscribe(&world, "ben", &[], SubscribeStart::Beginning).await.unwrap();
    let received = inbox.catch_up().await;
    assert_eq!(sequences(&received, "g"), (1..=MANY as i64 + 2).collect::<Vec<_>>());
    assert_eq!(sequences(&received, "h"), [1, 2, 3]);
    let of_h =
        received.iter().position(|received| matches!(received, Received::Event(event) if event.conversation_id == "h"));
    assert!(of_h.unwrap() < 200, "{of_h:?} of {} items came first", received.len());

    // The same during catch-up: live messages are not delayed.
    let mut inbox = subscribe(&world, "ben", &[("h", 3)], SubscribeStart::Beginning).await.unwrap();
    inbox.until(|received| matches!(received, Received::Event(event) if event.sequence == 100)).await;
    world.send("h", "ann", "live").await;
    let received =
        inbox.until(|received| matches!(received, Received::Event(event) if event.conversation_id == "h")).await;
    assert_eq!(sequences(&received, "h"), [4]);
    assert!(received.len() < MANY, "{} items came first", received.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_of_five_thousand_conversations_subscribes_with_few_queries() {
    const MANY: i64 = 5_000;
    let world = World::with_group().await;
    world.database.join_many("cat", MANY).await;
    let replica = world.replica().await;
    let mut inbox =
        crate::support::Inbox::subscribe(&replica.messages(), "cat", &[], SubscribeStart::ReadMark).await.unwrap();
    let marks = inbox.catch_up().await;
    assert_eq!(marks.len() as i64, MANY + 1);
    // All of them are live.
    for id in ["c1", "c2500", "c5000"] {
        world.send(id, "cat", "hi").await;
        assert_eq!(inbox.event().await.conversation_id, id);
    }
    // The statistics of the replica's sessions are complete once they have ended.
    replica.stop().await.unwrap();
    let (commits,): (i64,) =
        sqlx::query_as("SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()")
            .fetch_one(&mut world.database.connect().await)
            .await
            .unwrap();
    assert!(commits < MANY / 2, "{commits} transactions in all");
}
