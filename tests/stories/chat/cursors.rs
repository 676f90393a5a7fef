//! Cursors in several frames.

use std::time::{Duration, Instant};

use parlance::message::v1::{ChatCursors, ChatOpen, Cursor, Opened, SubscribeStart, chat_request::Frame};
use tonic::{Code, Status};

use crate::support::{PATIENCE, Received, Session, World, group, refused, violated_fields};

fn cursor(id: &str, after_sequence: i64) -> Cursor {
    Cursor { conversation_id: id.to_owned(), after_sequence }
}

fn part(cursors: Vec<Cursor>, more_cursors: bool) -> Frame {
    Frame::Cursors(ChatCursors { cursors, more_cursors })
}

fn open(cursors: Vec<Cursor>) -> Frame {
    let (actor_id, start) = ("ben".to_owned(), SubscribeStart::Now.into());
    Frame::Open(ChatOpen { actor_id, start, cursors, more_cursors: true, ..Default::default() })
}

async fn nack(session: &mut Session, frame: Frame) -> Status {
    let frame_id = session.frame(frame);
    let (nacked, status) = session.answer().await.unwrap_err();
    assert_eq!(nacked, frame_id);
    status
}

#[tokio::test]
async fn a_session_opens_with_the_last_part_of_its_cursors() {
    let world = World::with_group().await;
    for id in ["h", "i", "j"] {
        world.create(group(id, "ann", &["ben"])).await;
    }
    let mut ben = Session::begin(&world.messages()).await.unwrap();
    let opening = ben.frame(open(vec![cursor("g", 0)]));
    ben.frame(part(vec![cursor("h", 1)], true));
    // A frame in between waits until the session is open.
    let sending = ben.send("j", "hi");
    ben.frame(part(vec![cursor("i", 2)], false));
    assert_eq!(ben.inbox.receive().await, Received::Opened(Opened { frame_id: opening }));
    let mut received = Vec::new();
    while !received.iter().any(|received| matches!(received, Received::Ack(ack) if ack.frame_id == sending))
        || !received
            .iter()
            .any(|received| matches!(received, Received::CaughtUp(mark) if mark.conversation_id.is_empty()))
    {
        received.push(ben.inbox.receive().await);
    }
    let sequences = |id: &str| {
        let events = received.iter().filter_map(|received| match received {
            Received::Event(event) if event.conversation_id == id => Some(event.sequence),
            _ => None,
        });
        events.collect::<Vec<_>>()
    };
    assert_eq!((sequences("g"), sequences("h"), sequences("i")), (vec![1, 2], vec![2], vec![]));
}

#[tokio::test]
async fn a_refused_part_may_be_sent_again() {
    let world = World::with_group().await;
    let mut ben = Session::begin(&world.messages()).await.unwrap();
    let status = nack(&mut ben, part(vec![cursor("g", 0)], false)).await;
    refused::<()>(Err(status), Code::FailedPrecondition, "SESSION_NOT_OPEN");
    let send_only = ChatOpen { send_only: true, more_cursors: true, actor_id: "ben".to_owned(), ..Default::default() };
    let invalid = |status: Status| {
        violated_fields(&refused::<()>(Err(status), Code::InvalidArgument, "INVALID_ARGUMENT")).join(", ")
    };
    assert_eq!(invalid(nack(&mut ben, Frame::Open(send_only)).await), "more_cursors");

    let opening = ben.frame(open(vec![cursor("g", 1)]));
    assert_eq!(invalid(nack(&mut ben, part(vec![cursor("h", -1)], false)).await), "cursors[0].after_sequence");
    assert_eq!(invalid(nack(&mut ben, part(vec![cursor("h", 0), cursor("g", 1)], false)).await), "cursors");
    let many: Vec<Cursor> = (0..10_001).map(|n| cursor(&format!("c{n}"), 0)).collect();
    assert_eq!(invalid(nack(&mut ben, part(many, true)).await), "cursors");
    ben.frame(part(Vec::new(), false));
    assert_eq!(ben.inbox.receive().await, Received::Opened(Opened { frame_id: opening }));
    ben.inbox.catch_up().await;
    let status = nack(&mut ben, part(vec![cursor("g", 0)], false)).await;
    refused::<()>(Err(status), Code::FailedPrecondition, "SESSION_OPEN");
}

#[tokio::test]
async fn a_session_whose_cursors_are_not_complete_gets_that_as_the_reason() {
    let world = World::with_group().await;
    let incomplete = |status: Status, reason: &str| {
        let status = refused::<()>(Err(status), Code::FailedPrecondition, reason);
        assert_eq!(status.message(), "the cursors are not complete: send the remaining frames of cursors first");
    };
    let mut late = Session::begin(&world.messages()).await.unwrap();
    late.frame(open(vec![cursor("g", 0)]));
    incomplete(nack(&mut late, open(Vec::new())).await, "SESSION_OPEN");

    let mut ben = Session::begin(&world.messages()).await.unwrap();
    ben.frame(open(vec![cursor("g", 0)]));
    let waiting = [ben.send("g", "hi"), ben.mark_read("g", 1)];
    ben.half_close();
    for frame_id in waiting {
        let (nacked, status) = ben.answer().await.unwrap_err();
        assert_eq!(nacked, frame_id);
        incomplete(status, "SESSION_NOT_OPEN");
    }
    assert_eq!(ben.inbox.end().await.1.code(), Code::Ok);
    // The other one ends in time.
    incomplete(late.inbox.end().await.1, "SESSION_NOT_OPEN");
}

#[tokio::test]
async fn a_user_has_a_share_of_the_cursors_that_wait() {
    let world = World::with_group().await;
    let unknown = |of: usize| (0..10_000).map(|n| cursor(&format!("c{of}-{n}"), 0)).collect::<Vec<_>>();
    let mut first = Session::begin(&world.messages()).await.unwrap();
    first.frame(open(unknown(0)));
    for of in 1..9 {
        first.frame(part(unknown(of), true));
    }
    // Once this is answered, the frames before it are handled.
    nack(&mut first, part(vec![cursor("g", -1)], true)).await;

    let mut second = Session::begin(&world.messages()).await.unwrap();
    let opening = second.frame(open(unknown(0)));
    let status = nack(&mut second, part(unknown(1), false)).await;
    refused::<()>(Err(status), Code::ResourceExhausted, "OVERLOADED");
    let mut third = Session::begin(&world.messages()).await.unwrap();
    refused::<()>(Err(nack(&mut third, open(unknown(0))).await), Code::ResourceExhausted, "OVERLOADED");

    // With the first session its cursors are gone, and what was refused may be sent again.
    drop(first);
    let began = Instant::now();
    loop {
        second.frame(part(unknown(1), false));
        match second.inbox.receive().await {
            Received::Opened(opened) => break assert_eq!(opened.frame_id, opening),
            other => assert!(began.elapsed() < PATIENCE, "{other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
