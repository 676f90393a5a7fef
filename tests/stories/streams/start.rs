//! Start positions of a stream: the beginning, after a sequence, from now, ahead of the head.

use parlance::message::v1::StreamMessagesRequest;
use tonic::Code;

use super::follow;
use crate::support::{Reader, World, metadata, preconditions, refused, violated_fields};

async fn with_messages() -> World {
    let world = World::with_group().await;
    for n in 3..=10 {
        world.send("g", "ann", &format!("message {n}")).await;
    }
    world
}

#[tokio::test]
async fn a_stream_from_zero_delivers_the_whole_log_and_then_caught_up() {
    let world = with_messages().await;
    let mut reader = follow(&world, "ben", Some(0)).await.unwrap();
    let (events, mark) = reader.catch_up().await;
    assert_eq!(mark, 10);
    assert_eq!(events, world.log("g", "ben").await);
}

#[tokio::test]
async fn a_stream_after_a_sequence_delivers_later_entries_only() {
    let world = with_messages().await;
    let log = world.log("g", "ben").await;
    for after in [1, 5, 9, 10] {
        let mut reader = follow(&world, "ben", Some(after)).await.unwrap();
        let (events, mark) = reader.catch_up().await;
        assert_eq!((&events[..], mark), (&log[after as usize..], 10));
    }
}

#[tokio::test]
async fn a_stream_from_now_reports_its_position_when_caught_up() {
    let world = with_messages().await;
    let mut reader = follow(&world, "ben", None).await.unwrap();
    let (events, mark) = reader.catch_up().await;
    assert_eq!((events.len(), mark), (0, 10));
    world.send("g", "ann", "live").await;
    assert_eq!(reader.event().await.sequence, 11);
}

#[tokio::test]
async fn a_cursor_ahead_of_the_head_is_refused_at_once() {
    let world = with_messages().await;
    for after in [11, 1_000, i64::MAX] {
        let status = match follow(&world, "ben", Some(after)).await {
            Ok(mut reader) => reader.end().await.1,
            Err(status) => status,
        };
        let status = refused::<()>(Err(status), Code::FailedPrecondition, "SEQUENCE_AHEAD");
        assert_eq!(metadata(&status, "conversation_id"), "g");
        assert_eq!(metadata(&status, "last_sequence"), "10");
        assert_eq!(preconditions(&status).len(), 1);
    }
}

#[tokio::test]
async fn all_violations_are_reported_at_once() {
    let world = with_messages().await;
    let bad = StreamMessagesRequest {
        conversation_id: String::new(),
        actor_id: "~".to_owned(),
        after_sequence: Some(-1),
        ..Default::default()
    };
    let status = refused(world.messages().stream_messages(bad).await, Code::InvalidArgument, "INVALID_ARGUMENT");
    assert_eq!(violated_fields(&status), ["conversation_id", "actor_id", "after_sequence"]);
}

#[tokio::test]
async fn streams_opened_during_writes_miss_nothing() {
    let world = World::with_group().await;
    let writing = async {
        for n in 0..150 {
            world.send("g", "ann", &format!("message {n}")).await;
        }
    };
    let reading = async {
        for n in 0..15 {
            // Half of them from now, wherever the head is.
            let after = (n % 2 == 0).then_some(n * 10).filter(|after| *after <= 2);
            let mut reader = Reader::open(&world.messages(), "g", "ben", after).await.unwrap();
            let (_, mark) = reader.catch_up().await;
            reader.up_to((mark + 5).min(152)).await;
        }
    };
    tokio::join!(writing, reading);
    assert_eq!(world.log("g", "ann").await.len(), 152);
}
