use std::time::Duration;

use parlance::message::v1::MarkReadRequest;

use super::{Pair, is_marker};
use crate::support::{Received, group};

async fn mark(pair: &Pair, conversation_id: &str, actor_id: &str, sequence: i64) {
    let request =
        MarkReadRequest { conversation_id: conversation_id.to_owned(), actor_id: actor_id.to_owned(), sequence };
    pair.world.conversations().mark_read(request).await.unwrap();
}

async fn markers_reach_all_members(pair: Pair) {
    let mut inboxes = Vec::new();
    for user in ["ann", "ben"] {
        inboxes.extend(pair.both(user).await);
    }
    for sequence in 3..6 {
        pair.world.send("g", "ann", "hello").await;
        for inbox in &mut inboxes {
            inbox.until(|received| matches!(received, Received::Event(event) if event.sequence == sequence)).await;
        }
        mark(&pair, "g", "ben", sequence).await;
        for inbox in &mut inboxes {
            let received = inbox.until(|received| matches!(received, Received::Event(_))).await;
            let Some(Received::Event(event)) = received.last() else { unreachable!() };
            assert!(is_marker(event, "ben", sequence), "{event:?}");
        }
    }
    // A mark that does not move delivers nothing.
    mark(&pair, "g", "ben", 4).await;
    for inbox in &mut inboxes {
        inbox.is_silent_for(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn read_markers_reach_every_replica_over_postgres() {
    markers_reach_all_members(Pair::on_postgres().await).await;
}

#[tokio::test]
async fn read_markers_reach_every_replica_over_nats() {
    markers_reach_all_members(Pair::on_nats().await).await;
}

#[tokio::test]
async fn in_a_large_conversation_only_the_reader_receives_the_marker() {
    let pair = Pair::on_postgres().await;
    pair.world.many_users(100).await;
    let members: Vec<String> = (0..100).map(|n| format!("u{n}")).collect();
    let members: Vec<&str> = members.iter().map(String::as_str).collect();
    pair.world.create(group("large", "ann", &members)).await;
    let [mut here, mut there] = pair.both("u0").await;
    let [mut other, _] = pair.both("u1").await;
    mark(&pair, "large", "u0", 101).await;
    for own in [&mut here, &mut there] {
        assert!(is_marker(&own.event().await, "u0", 101));
    }
    other.is_silent_for(Duration::from_millis(200)).await;
}
