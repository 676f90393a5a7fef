//! A reader at another process than the writer: it receives every entry as it is committed, wherever it was written.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use parlance::message::v1::{
    DeleteMessageRequest, EditMessageRequest, Event, SendMessageRequest, event::Kind,
    message_service_client::MessageServiceClient,
};
use sqlx::{PgConnection, postgres::PgListener};
use tokio_util::sync::CancellationToken;
use tonic::{Code, transport::Channel};

use super::follow;
use crate::support::{Reader, World, refused, send, send_as};

async fn send_at(client: &MessageServiceClient<Channel>, request: SendMessageRequest) -> i64 {
    client.clone().send_message(request).await.unwrap().into_inner().message.unwrap().sequence
}

#[tokio::test]
async fn a_second_replica_delivers_everything_committed_before_the_stream_opened() {
    let world = World::with_group().await;
    let replica = world.replica().await;
    for round in 1..=10 {
        world.send("g", "ann", &format!("message {round}")).await;
        let mut reader = Reader::open(&replica.messages(), "g", "ben", Some(0)).await.unwrap();
        let (events, mark) = reader.catch_up().await;
        assert_eq!((events.len() as i64, mark), (2 + round, 2 + round));
        let mut from_now = Reader::open(&replica.messages(), "g", "ben", None).await.unwrap();
        assert_eq!(from_now.catch_up().await.1, 2 + round);
    }
}

#[tokio::test]
async fn a_reader_resumes_at_another_replica_from_its_position() {
    let world = World::with_group().await;
    let replica = world.replica().await;
    let mut here = follow(&world, "ben", Some(0)).await.unwrap();
    world.send("g", "ann", "one").await;
    assert_eq!(here.up_to(3).await.len(), 3);
    drop(here);
    world.send("g", "ann", "two").await;
    let mut there = Reader::open(&replica.messages(), "g", "ben", Some(3)).await.unwrap();
    assert_eq!(there.catch_up().await.0.len(), 1);
    world.send("g", "ann", "three").await;
    assert_eq!(there.event().await.sequence, 5);
    send_at(&replica.messages(), send("g", "ann", "four")).await;
    assert_eq!(there.event().await.sequence, 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_replicas_deliver_everything_written_at_any_of_them() {
    const EACH: i64 = 40;
    let world = World::with_group().await;
    let (second, third) = (world.replica().await, world.replica().await);
    let clients = [world.messages(), second.messages(), third.messages()];
    let mut readers = Vec::new();
    for client in &clients {
        readers.push(Reader::open(client, "g", "ben", Some(0)).await.unwrap());
    }
    let writing = join_all(clients.iter().map(async |client| {
        for n in 0..EACH {
            send_at(client, send("g", "ann", &format!("{n}"))).await;
        }
    }));
    let reading = join_all(readers.iter_mut().map(|reader| reader.up_to(2 + 3 * EACH)));
    let (_, read) = tokio::join!(writing, reading);
    let log = world.log("g", "ben").await;
    for events in read {
        assert_eq!(events, log);
    }
}

#[tokio::test]
async fn edits_and_deletions_reach_other_replicas() {
    let world = World::with_group().await;
    let replica = world.replica().await;
    let mut there = Reader::open(&replica.messages(), "g", "ben", Some(2)).await.unwrap();
    world.send("g", "ann", "one").await;
    world.send("g", "ann", "two").await;
    assert_eq!(there.up_to(4).await.len(), 2);
    let edit = EditMessageRequest {
        conversation_id: "g".to_owned(),
        sequence: 3,
        actor_id: "ann".to_owned(),
        text: "better".to_owned(),
        ..Default::default()
    };
    world.messages().edit_message(edit).await.unwrap();
    let event = there.event().await;
    assert!(matches!(&event.kind, Some(Kind::MessageEdited(message)) if message.text == "better"), "{event:?}");
    let delete = DeleteMessageRequest { conversation_id: "g".to_owned(), sequence: 4, actor_id: "ann".to_owned() };
    world.messages().delete_message(delete).await.unwrap();
    let event = there.event().await;
    assert!(matches!(&event.kind, Some(Kind::MessageDeleted(message)) if message.sequence == 4), "{event:?}");
    // Old entries in memory are not delivered to later subscribers.
    let mut later = Reader::open(&replica.messages(), "g", "ben", Some(2)).await.unwrap();
    let event = later.event().await;
    assert!(matches!(&event.kind, Some(Kind::MessageSent(message)) if message.text == "better"), "{event:?}");
}

#[tokio::test]
async fn a_member_removed_at_another_replica_receives_nothing_after_the_removal() {
    let world = World::with_group().await;
    let replica = world.replica().await;
    let mut removed = Reader::open(&replica.messages(), "g", "ben", None).await.unwrap();
    removed.catch_up().await;
    world.remove("g", "ann", "ben").await.unwrap();
    world.send("g", "ann", "behind your back").await;
    let (events, status) = removed.end().await;
    let is_own = |event: &Event| matches!(&event.kind, Some(Kind::MemberLeft(change)) if change.user_id == "ben");
    assert!(events.len() == 1 && is_own(&events[0]), "{events:?}");
    refused::<()>(Err(status), Code::PermissionDenied, "NOT_A_MEMBER");
}

#[tokio::test]
async fn a_subscriber_after_an_idle_period_misses_nothing() {
    let world = World::with_group().await;
    let replica = world.replica().await;
    for round in 0..5 {
        let mut there = Reader::open(&replica.messages(), "g", "ben", None).await.unwrap();
        world.send("g", "ann", "just after").await;
        let mark = there.catch_up().await.1;
        there.up_to(3 + 2 * round).await;
        assert!(mark >= 2 + 2 * round, "{mark}");
        drop(there);
        // Without a subscriber now; this may be before or after the next poll.
        tokio::time::sleep(Duration::from_millis(100 * round.unsigned_abs())).await;
        world.send("g", "ann", "unseen").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notifications_make_delivery_fast() {
    let world = World::with_group().await;
    let replica = world.replica().await;
    let mut there = Reader::open(&replica.messages(), "g", "ben", None).await.unwrap();
    there.catch_up().await;
    let mut took = Vec::new();
    // Each is sent right after a poll: without notifications it would wait for nearly the whole poll interval.
    for _ in 0..21 {
        let sequence = world.send("g", "ann", "x").await.sequence;
        let sent = Instant::now();
        there.up_to(sequence).await;
        took.push(sent.elapsed());
    }
    took.sort();
    assert!(took[10] < Duration::from_millis(100), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_notifications_everything_is_still_delivered() {
    let world = World::with_group().await;
    let replica = world.replica().await;
    let clients = [world.messages(), replica.messages()];
    let mut readers = Vec::new();
    for client in &clients {
        readers.push(Reader::open(client, "g", "ben", Some(2)).await.unwrap());
    }
    let stop = CancellationToken::new();
    let silencing = silence(world.database.connect().await, stop.clone());
    let reading = async {
        let mut head = 2;
        for n in 0..40 {
            head = send_at(&clients[n % 2], send("g", "ann", "x")).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for reader in &mut readers {
            reader.up_to(head).await;
        }
        stop.cancel();
    };
    let (silenced, ()) = tokio::join!(silencing, reading);
    assert!(silenced >= 4, "{silenced}");
}

/// Ends every listener session as soon as it appears; returns their number.
async fn silence(mut outside: PgConnection, stop: CancellationToken) -> i64 {
    const END: &str = "
        SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE datname = current_database()
            AND application_name IN ('parlance message-service bell', 'parlance message-service listener')";
    let mut ended = 0;
    while !stop.is_cancelled() {
        let (more,): (i64,) = sqlx::query_as(END).fetch_one(&mut outside).await.unwrap();
        ended += more;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    ended
}

#[tokio::test]
async fn sends_that_store_nothing_notify_no_replica() {
    let world = World::with_group().await;
    let mut listener = PgListener::connect(&world.database.url()).await.unwrap();
    listener.listen("parlance_message").await.unwrap();
    let quiet = Duration::from_millis(200);
    // That of the group.
    while tokio::time::timeout(quiet, listener.recv()).await.is_ok() {}
    let first = world.try_send(send_as("r", "g", "ann", "once")).await.unwrap();
    listener.recv().await.unwrap();
    // A repeat, a reused id and a stranger, each answered before the next.
    assert!(world.try_send(send_as("r", "g", "ann", "once")).await.unwrap().duplicate);
    refused(world.try_send(send_as("r", "g", "ann", "other")).await, Code::InvalidArgument, "REQUEST_ID_REUSED");
    world.users(&["eve"]).await;
    refused(world.try_send(send("g", "eve", "let me in")).await, Code::NotFound, "CONVERSATION_NOT_FOUND");
    // Notifications of one sender arrive in order: none of those is before that of the next message.
    let head = first.message.unwrap().sequence;
    world.send("g", "ann", "twice").await;
    listener.recv().await.unwrap();
    assert_eq!(world.conversation("g", "ann").await.unwrap().last_sequence, head + 1);
    let more = tokio::time::timeout(quiet, listener.recv()).await;
    assert!(more.is_err(), "{more:?}");
}
