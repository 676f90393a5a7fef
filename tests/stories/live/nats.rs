//! The bus over NATS: it carries entries, and is no more than a hint.

use std::time::{Duration, Instant};

use async_nats::{Client, Message as NatsMessage, Subscriber};
use futures_util::StreamExt;
use parlance::message::v1::{
    Event, MemberRole, Message, SubscribeResponse, SubscribeStart, event::Kind, subscribe_response::Item,
};
use prost::Message as _;
use tokio::{net::TcpListener, time::timeout};

use super::Pair;
use crate::support::{Inbox, NatsServer, PATIENCE, Process, Reader, TestDatabase, World, eventually, group};

#[tokio::test]
async fn entries_of_all_kinds_reach_the_other_replica_in_order() {
    let pair = Pair::on_nats().await;
    let mut there = Reader::open(&pair.replica.messages(), "g", "ben", Some(0)).await.unwrap();
    there.catch_up().await;
    for n in 0..20 {
        pair.world.send("g", "ann", &format!("{n}")).await;
        if n % 5 == 0 {
            pair.world.remove("g", "ann", "cat").await.ok();
            pair.world.add("g", "ann", &["cat"], MemberRole::Member).await.unwrap();
        }
    }
    let log = pair.world.log("g", "ben").await;
    assert_eq!(there.up_to(log.len() as i64).await, log[2..]);
    // Joins are not on the bus, but in the outbox; a hint makes other replicas poll it.
    let mut inbox = Inbox::subscribe(&pair.replica.messages(), "dan", &[], SubscribeStart::Now).await.unwrap();
    inbox.catch_up().await;
    pair.world.create(group("h", "ann", &["dan"])).await;
    assert_eq!(inbox.event().await.conversation_id, "h");
}

#[tokio::test]
async fn nothing_is_lost_while_nats_is_down() {
    let mut pair = Pair::on_nats().await;
    let mut there = Reader::open(&pair.replica.messages(), "g", "ben", Some(2)).await.unwrap();
    pair.world.send("g", "ann", "before").await;
    assert_eq!(there.event().await.sequence, 3);
    let port = pair.nats.take().unwrap().kill();
    for sequence in 4..10 {
        pair.world.send("g", "ann", "while it is away").await;
        assert_eq!(there.event().await.sequence, sequence);
    }
    let server = NatsServer::start_again(port).await;
    let outside = async_nats::connect(server.url()).await.unwrap();
    // It is used again: its clients receive hints about new messages.
    let mut heard = outside.subscribe("parlance.>").await.unwrap();
    outside.flush().await.unwrap();
    receive_hints(&pair.world, &mut there, &mut heard, 10).await;
}

/// Sends to `g`, where `sequence` is the next, until the server delivers a hint: a service that has yet to connect does
/// not wait for that. Returns the hints and the next sequence.
async fn receive_hints(
    world: &World,
    there: &mut Reader,
    heard: &mut Subscriber,
    mut sequence: i64,
) -> (NatsMessage, i64) {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        world.send("g", "ann", "is it heard?").await;
        assert_eq!(there.event().await.sequence, sequence);
        sequence += 1;
        if let Ok(message) = timeout(Duration::from_millis(100), heard.next()).await {
            return (message.expect("an open subscription"), sequence);
        }
    }
    panic!("the server delivered no hint up to {sequence}");
}

#[tokio::test]
async fn a_service_starts_without_nats_and_connects_later() {
    let port = NatsServer::start().await.kill();
    let url = format!("nats://127.0.0.1:{port}");
    let world = World::with(&["--bus-url", &url]).await;
    world.users(&["ann", "ben"]).await;
    world.create(group("g", "ann", &["ben"])).await;
    let replica = world.replica_with(&["--bus-url", &url]).await;
    let mut there = Reader::open(&replica.messages(), "g", "ben", Some(2)).await.unwrap();
    world.send("g", "ann", "without").await;
    assert_eq!(there.event().await.sequence, 3);
}

#[tokio::test]
async fn an_outage_of_nats_is_logged_once_however_long_it_lasts() {
    let server = NatsServer::start().await;
    let database = TestDatabase::migrated().await;
    let users = Process::user_service(&database.url()).await;
    let flags = ["--bus-url", &server.url()];
    let service = Process::message_service(&database.url(), &users.address().to_string(), &flags).await;
    let has = async |count: usize, text: &str| {
        eventually(PATIENCE, || async {
            let log = service.log();
            if log.matches(text).count() == count { Ok(()) } else { Err(log) }
        })
        .await;
    };
    has(1, "NATS is connected").await;
    let port = server.kill();
    has(1, "NATS is disconnected").await;
    let in_its_place = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    for _ in 0..4 {
        timeout(PATIENCE, in_its_place.accept()).await.expect("another attempt to connect").unwrap();
    }
    drop(in_its_place);
    let _server = NatsServer::start_again(port).await;
    has(2, "NATS is connected").await;
    let log = service.log();
    let about_it = log.lines().filter(|line| line.contains("NATS") || line.contains("async_nats")).count();
    assert_eq!((about_it, log.matches("NATS cannot be reached").count()), (4, 1), "{log}");
}

/// A hint of another replica that is not sealed: a first sequence and entries.
fn forged(conversation_id: &str, first_sequence: u64, frames: &[&[u8]]) -> Vec<u8> {
    let field = |tag: u8, bytes: &[u8]| {
        assert!(bytes.len() < 128, "one byte of length");
        [&[tag, bytes.len() as u8][..], bytes].concat()
    };
    let mut entries = field(0x0a, conversation_id.as_bytes());
    entries.extend([0x10, first_sequence as u8]);
    entries.extend(frames.iter().flat_map(|frame| field(0x1a, frame)));
    field(0x1a, &entries)
}

/// An entry as streams encode it.
fn event(conversation_id: &str, sequence: i64, text: &str) -> Vec<u8> {
    let conversation_id = conversation_id.to_owned();
    let message =
        Message { conversation_id: conversation_id.clone(), sequence, text: text.to_owned(), ..Default::default() };
    let event = Event { conversation_id, sequence, kind: Some(Kind::MessageSent(message)), ..Default::default() };
    SubscribeResponse { item: Some(Item::Event(event)) }.encode_to_vec()
}

#[tokio::test]
async fn hints_reveal_nothing_to_others_on_the_server() {
    let pair = Pair::on_nats().await;
    let mut there = Reader::open(&pair.replica.messages(), "g", "ben", Some(0)).await.unwrap();
    there.catch_up().await;
    let outside: Client = async_nats::connect(pair.nats.as_ref().unwrap().url()).await.unwrap();
    let mut heard = outside.subscribe("parlance.>").await.unwrap();
    outside.flush().await.unwrap();
    let (received, _) = receive_hints(&pair.world, &mut there, &mut heard, 3).await;
    for word in ["is it heard?", "ann"] {
        assert!(!received.payload.windows(word.len()).any(|bytes| bytes == word.as_bytes()), "{word} is readable");
    }
}

#[tokio::test]
async fn malformed_and_false_hints_are_harmless() {
    let pair = Pair::on_nats().await;
    let mut there = Reader::open(&pair.replica.messages(), "g", "ben", Some(0)).await.unwrap();
    there.catch_up().await;
    let outside: Client = async_nats::connect(pair.nats.as_ref().unwrap().url()).await.unwrap();
    let mut heard = outside.subscribe("parlance.>").await.unwrap();
    outside.flush().await.unwrap();
    let (received, next) = receive_hints(&pair.world, &mut there, &mut heard, 3).await;
    let reached = next as u64 - 1;
    for round in 0..5 {
        let last = reached + round;
        let lies: [Vec<u8>; 8] = [
            b"nonsense".to_vec(),
            Vec::new(),
            // The next entry, as another replica would announce it.
            forged("g", last + 1, &[&event("g", last as i64 + 1, "a lie")]),
            // Far ahead, far behind, at the head, without entries.
            forged("g", last + 50, &[b"x", b"y"]),
            forged("g", 1, &[b"x", b"y"]),
            forged("g", last, &[b"x"]),
            forged("g", last + 1, &[]),
            // A genuine one again.
            received.payload.to_vec(),
        ];
        for lie in &lies {
            outside.publish(received.subject.clone(), lie.clone().into()).await.unwrap();
        }
        outside.flush().await.unwrap();
        pair.world.send("g", "ann", "the truth").await;
        let delivered = there.event().await;
        assert_eq!(delivered.sequence, next + round as i64);
        assert!(
            matches!(&delivered.kind, Some(Kind::MessageSent(message)) if message.text == "the truth"),
            "{delivered:?}"
        );
    }
    assert_eq!(pair.world.log("g", "ben").await.len() as i64, next + 4);
}
