//! The bus over NATS: it carries entries, and is no more than a hint.

use std::time::{Duration, Instant};

use async_nats::{Client, Message, Subscriber};
use futures_util::StreamExt;
use parlance::message::v1::{MemberRole, SubscribeStart};
use tokio::time::timeout;

use super::Pair;
use crate::support::{Inbox, NatsServer, PATIENCE, Reader, World, group};

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
async fn receive_hints(world: &World, there: &mut Reader, heard: &mut Subscriber, mut sequence: i64) -> (Message, i64) {
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

/// A hint of another replica: a first sequence and entries, as encoded on the bus.
fn forged(conversation_id: &str, first_sequence: u64, frames: &[&[u8]]) -> Vec<u8> {
    let field = |tag: u8, bytes: &[u8]| [&[tag, bytes.len() as u8][..], bytes].concat();
    let mut entries = field(0x0a, conversation_id.as_bytes());
    entries.extend([0x10, first_sequence as u8]);
    entries.extend(frames.iter().flat_map(|frame| field(0x1a, frame)));
    field(0x1a, &entries)
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
    let lies: [Vec<u8>; 6] = [
        b"nonsense".to_vec(),
        Vec::new(),
        // Far ahead, far behind, at the head, without entries.
        forged("g", reached + 50, &[b"x", b"y"]),
        forged("g", 1, &[b"x", b"y"]),
        forged("g", reached, &[b"x"]),
        forged("g", reached + 1, &[]),
    ];
    for round in 0..5 {
        for lie in &lies {
            outside.publish(received.subject.clone(), lie.clone().into()).await.unwrap();
        }
        outside.flush().await.unwrap();
        pair.world.send("g", "ann", "the truth").await;
        assert_eq!(there.event().await.sequence, next + round);
    }
    assert_eq!(pair.world.log("g", "ben").await.len() as i64, next + 4);
}
