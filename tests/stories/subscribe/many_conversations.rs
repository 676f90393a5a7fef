use futures_util::{StreamExt, stream};
use parlance::message::v1::{
    Cursor, SubscribeRequest, SubscribeResponse, SubscribeStart, message_service_client::MessageServiceClient,
    subscribe_response::Item,
};
use tonic::{Code, Status, Streaming};

use super::{sequences, subscribe};
use crate::support::{PATIENCE, Received, World, channel_to, code_and_reason, eventually, group, retry_delay, send};

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

/// Subscribes over a connection of its own, with the largest number of cursors, none of which the user may follow.
async fn subscribe_to_unknown(world: &World, user_id: &str) -> Result<Streaming<SubscribeResponse>, Status> {
    let cursor = |n| Cursor { conversation_id: format!("unknown-{n}"), after_sequence: 0 };
    let request = SubscribeRequest {
        actor_id: user_id.to_owned(),
        cursors: (0..10_000).map(cursor).collect(),
        ..SubscribeRequest::default()
    };
    let mut client = MessageServiceClient::new(channel_to(world.message_service.address()));
    Ok(client.subscribe(request).await?.into_inner())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cursors_that_a_client_does_not_learn_the_end_of_are_bounded() {
    let world = World::with_group().await;
    let mut untaken = Vec::new();
    let refused = loop {
        match subscribe_to_unknown(&world, "ben").await {
            Ok(stream) => untaken.push(stream),
            Err(status) => break status,
        }
        assert!(untaken.len() <= 10, "more than 100,000 cursors");
    };
    assert_eq!(code_and_reason(&refused), (Code::ResourceExhausted, "OVERLOADED".to_owned()));
    assert!(retry_delay(&refused).is_some());
    // Others are not refused, and neither are streams of the same user with few cursors.
    subscribe_to_unknown(&world, "ann").await.unwrap();
    subscribe(&world, "ben", &[("g", 1)], SubscribeStart::ReadMark).await.unwrap().catch_up().await;

    // The client receives one of its streams up to the heartbeat.
    let mut taken = untaken.pop().unwrap();
    let mut closed = 0;
    while let Item::Closed(_) = taken.message().await.unwrap().unwrap().item.unwrap() {
        closed += 1;
    }
    assert_eq!(closed, 10_000);
    eventually(PATIENCE, || subscribe_to_unknown(&world, "ben")).await;
}
