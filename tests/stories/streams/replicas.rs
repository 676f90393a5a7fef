//! A reader at another process than the writer: what is in the log is there for it, wherever it was written.

use super::follow;
use crate::support::{Reader, World};

#[tokio::test]
async fn a_second_replica_gives_everything_that_was_committed_before_the_stream_began() {
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
async fn a_reader_goes_on_at_another_replica_with_the_sequence_it_has() {
    let world = World::with_group().await;
    let replica = world.replica().await;
    let mut here = follow(&world, "ben", Some(0)).await.unwrap();
    world.send("g", "ann", "one").await;
    assert_eq!(here.up_to(3).await.len(), 3);
    drop(here);
    world.send("g", "ann", "two").await;
    let mut there = Reader::open(&replica.messages(), "g", "ben", Some(3)).await.unwrap();
    assert_eq!(there.catch_up().await.0.len(), 1);
    // What is written there is live there; what is written here comes with it at the latest.
    world.send("g", "ann", "three").await;
    replica.messages().send_message(crate::support::send("g", "ann", "four")).await.unwrap();
    assert_eq!(there.up_to(6).await.len(), 2);
}
