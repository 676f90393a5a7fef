use parlance::message::v1::{ChatOpen, Cursor, SendMessageRequest, SubscribeStart, chat_request::Frame};
use tonic::{Code, Status};

use crate::support::{Received, Session, World, channel, group, refused, send_as, violated_fields};

#[tokio::test]
async fn a_sent_message_is_acknowledged_and_delivered_to_everyone_including_the_sender() {
    let world = World::with_group().await;
    let mut ann = Session::open(&world.messages(), "ann", &[], SubscribeStart::Now).await.unwrap();
    let mut ben = Session::open(&world.messages(), "ben", &[("g", 0)], SubscribeStart::Now).await.unwrap();
    ann.inbox.catch_up().await;
    assert_eq!(ben.inbox.catch_up().await.len(), 4);

    let frame_id = ann.send("g", "hello");
    let mut received = ann.inbox.until(|received| matches!(received, Received::Ack(_))).await;
    if received.len() == 1 {
        received.push(ann.inbox.receive().await);
    }
    let event = received
        .iter()
        .find_map(|received| if let Received::Event(event) = received { Some(event.clone()) } else { None });
    let ack = received
        .iter()
        .find_map(|received| if let Received::Ack(ack) = received { Some(ack.clone()) } else { None })
        .unwrap();
    assert_eq!((ack.frame_id, &*ack.conversation_id, ack.sequence, ack.duplicate), (frame_id, "g", 3, false));
    let stored = world.log("g", "ann").await.pop().unwrap();
    assert_eq!((event.as_ref(), ack.create_time), (Some(&stored), stored.event_time));
    assert!(!ack.request_id.is_empty());
    assert_eq!(ben.inbox.event().await, stored);

    let frame_id = ben.mark_read("g", 99);
    let ack = ben.answer().await.unwrap();
    assert_eq!((ack.frame_id, &*ack.conversation_id, ack.sequence), (frame_id, "g", 3));
    let member = world.members("g", "ann").await.into_iter().find(|member| member.user_id == "ben").unwrap();
    assert_eq!((member.last_read_sequence, member.unread_count), (3, 0));
    let frame_id = ben.typing("g");
    assert_eq!(ben.answer().await.unwrap().frame_id, frame_id);
}

#[tokio::test]
async fn a_retry_is_answered_with_the_original() {
    let world = World::with_group().await;
    let mut ann = Session::send_only(&world.messages(), "ann").await.unwrap();
    let once = |text: &str| Frame::Send(SendMessageRequest { sender_id: String::new(), ..send_as("r", "g", "", text) });
    ann.frame(once("hello"));
    let first = ann.answer().await.unwrap();
    ann.frame(once("hello"));
    let again = ann.answer().await.unwrap();
    assert!(!first.duplicate && again.duplicate);
    assert_eq!((first.sequence, first.create_time, &*first.request_id), (again.sequence, again.create_time, "r"));
    let frame_id = ann.frame(once("something else"));
    let (nacked, status) = ann.answer().await.unwrap_err();
    assert_eq!(nacked, frame_id);
    refused::<()>(Err(status), Code::InvalidArgument, "REQUEST_ID_REUSED");
}

async fn nack(session: &mut Session, frame_id: u64) -> Status {
    let (nacked, status) = session.answer().await.unwrap_err();
    assert_eq!(nacked, frame_id);
    status
}

#[tokio::test]
async fn a_bad_frame_gets_a_nack_and_the_session_continues() {
    let world = World::with_group().await;
    world.create(group("secret", "ann", &[])).await;
    world.create(channel("c", "ann", &[])).await;
    let mut ben = Session::begin(&world.messages()).await.unwrap();

    for frame_id in [ben.send("g", "too early"), ben.mark_read("g", 1), ben.typing("g")] {
        refused::<()>(Err(nack(&mut ben, frame_id).await), Code::FailedPrecondition, "SESSION_NOT_OPEN");
    }
    let frame_id = ben.raw(None);
    let status = refused::<()>(Err(nack(&mut ben, frame_id).await), Code::InvalidArgument, "INVALID_ARGUMENT");
    assert_eq!(violated_fields(&status), ["frame"]);
    let bad = Cursor { conversation_id: "g".to_owned(), after_sequence: -1 };
    let frame_id =
        ben.frame(Frame::Open(ChatOpen { actor_id: "~".to_owned(), cursors: vec![bad.clone()], ..Default::default() }));
    let status = refused::<()>(Err(nack(&mut ben, frame_id).await), Code::InvalidArgument, "INVALID_ARGUMENT");
    assert_eq!(violated_fields(&status), ["actor_id", "cursors[0].after_sequence"]);

    // Frames after `open` need not wait for its response.
    let open = ChatOpen { actor_id: "ben".to_owned(), send_only: true, ..Default::default() };
    let (opening, sending) = (ben.frame(Frame::Open(open.clone())), ben.send("g", "at once"));
    assert_eq!(ben.inbox.receive().await, Received::Opened(parlance::message::v1::Opened { frame_id: opening }));
    assert_eq!(ben.answer().await.unwrap().frame_id, sending);
    let frame_id = ben.frame(Frame::Open(open));
    refused::<()>(Err(nack(&mut ben, frame_id).await), Code::FailedPrecondition, "SESSION_OPEN");

    let frame_id = ben.frame(Frame::Send(crate::support::send("g", "ann", "in her name")));
    let status = refused::<()>(Err(nack(&mut ben, frame_id).await), Code::InvalidArgument, "INVALID_ARGUMENT");
    assert_eq!(violated_fields(&status), ["sender_id"]);
    let frame_id = ben.send("g", " ");
    let status = refused::<()>(Err(nack(&mut ben, frame_id).await), Code::InvalidArgument, "INVALID_ARGUMENT");
    assert_eq!(violated_fields(&status), ["text"]);
    let frame_id = ben.send("secret", "hi");
    refused::<()>(Err(nack(&mut ben, frame_id).await), Code::NotFound, "CONVERSATION_NOT_FOUND");
    let frame_id = ben.send("c", "hi");
    refused::<()>(Err(nack(&mut ben, frame_id).await), Code::PermissionDenied, "NOT_A_MEMBER");
    for frame_id in [ben.mark_read("secret", 1), ben.typing("secret")] {
        refused::<()>(Err(nack(&mut ben, frame_id).await), Code::NotFound, "CONVERSATION_NOT_FOUND");
    }
    let frame_id = ben.mark_read("c", -1);
    let status = refused::<()>(Err(nack(&mut ben, frame_id).await), Code::InvalidArgument, "INVALID_ARGUMENT");
    assert_eq!(violated_fields(&status), ["sequence"]);

    ben.send("g", "still here");
    assert_eq!(ben.answer().await.unwrap().sequence, 4);
}

#[tokio::test]
async fn a_send_only_session_receives_responses_only() {
    let world = World::with_group().await;
    let mut ann = Session::send_only(&world.messages(), "ann").await.unwrap();
    world.send("g", "ben", "hi").await;
    ann.send("g", "hello");
    assert!(matches!(ann.inbox.receive().await, Received::Ack(ack) if ack.sequence == 4));
    ann.inbox.is_silent_for(std::time::Duration::from_millis(200)).await;

    let mut strict = Session::begin(&world.messages()).await.unwrap();
    let cursors = vec![Cursor { conversation_id: "g".to_owned(), after_sequence: 0 }];
    let open = ChatOpen { actor_id: "ann".to_owned(), cursors, send_only: true, ..Default::default() };
    let frame_id = strict.frame(Frame::Open(open));
    let status = refused::<()>(Err(nack(&mut strict, frame_id).await), Code::InvalidArgument, "INVALID_ARGUMENT");
    assert_eq!(violated_fields(&status), ["cursors"]);
}
