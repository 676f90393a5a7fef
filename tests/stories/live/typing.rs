use std::time::Duration;

use parlance::message::v1::SubscribeStart;
use tonic::Code;

use super::{Pair, is_typing, until_delivered};
use crate::support::{Inbox, Received, Session, channel, group, refused, violated_fields};

async fn typing_reaches_the_others(pair: Pair) {
    let [mut here, mut there] = pair.both("ben").await;
    let mut own = pair.both("ann").await;
    until_delivered(
        &mut [&mut here, &mut there],
        |event| is_typing(event, "ann"),
        async || {
            pair.type_in("g", "ann").await.unwrap();
        },
    )
    .await;
    // Not to the sender: the next delivery is the message.
    pair.world.send("g", "ben", "hello").await;
    for own in &mut own {
        assert_eq!(own.event().await.sequence, 3);
    }
}

#[tokio::test]
async fn typing_reaches_the_others_on_every_replica_over_postgres() {
    typing_reaches_the_others(Pair::on_postgres().await).await;
}

#[tokio::test]
async fn typing_reaches_the_others_on_every_replica_over_nats() {
    typing_reaches_the_others(Pair::on_nats().await).await;
}

#[tokio::test]
async fn typing_in_a_session_reaches_streams_of_one_conversation() {
    let pair = Pair::on_postgres().await;
    let mut session = Session::send_only(&pair.world.messages(), "ann").await.unwrap();
    let request = parlance::message::v1::StreamMessagesRequest {
        conversation_id: "g".to_owned(),
        actor_id: "ben".to_owned(),
        after_sequence: None,
        ..Default::default()
    };
    let mut stream = pair.world.messages().stream_messages(request).await.unwrap().into_inner();
    let (beat, mark) = (stream.message().await.unwrap().unwrap(), stream.message().await.unwrap().unwrap());
    let frame_id = session.typing("g");
    assert_eq!(session.answer().await.unwrap().frame_id, frame_id);
    let received = tokio::time::timeout(crate::support::PATIENCE, stream.message()).await.unwrap().unwrap().unwrap();
    let Some(parlance::message::v1::stream_messages_response::Item::Event(event)) = received.item else {
        panic!("{received:?} after {beat:?} and {mark:?}")
    };
    assert!(is_typing(&event, "ann") && event.event_time.is_none() && event.actor_id == "ann", "{event:?}");
}

#[tokio::test]
async fn typing_that_another_user_of_the_database_forges_is_not_delivered() {
    let pair = Pair::on_postgres().await;
    let [mut here, mut there] = pair.both("ben").await;
    // Ann is typing in `g`, as a replica would announce it without the seal.
    let hint = b"\x22\x0a\x0a\x01g\x12\x03ann\x20\x01";
    let notify = sqlx::query("SELECT pg_notify('parlance_message_live', encode($1, 'base64'))").bind(&hint[..]);
    notify.execute(&mut pair.world.database.connect().await).await.unwrap();
    pair.world.send("g", "ann", "hello").await;
    for inbox in [&mut here, &mut there] {
        let received = inbox.receive().await;
        assert!(matches!(&received, Received::Event(event) if event.sequence == 3), "{received:?}");
    }
}

#[tokio::test]
async fn frequent_typing_is_delivered_once() {
    let pair = Pair::on_postgres().await;
    let [mut here, _there] = pair.both("ben").await;
    for _ in 0..20 {
        pair.type_in("g", "ann").await.unwrap();
    }
    pair.world.send("g", "ann", "done").await;
    let received = here.until(|received| matches!(received, Received::Event(event) if event.sequence == 3)).await;
    // Twenty calls take less than the two seconds of the rate limit; on a very slow machine a second one may fit in.
    let count = received
        .iter()
        .filter(|received| matches!(received, Received::Event(event) if is_typing(event, "ann")))
        .count();
    assert!((1..=2).contains(&count), "{received:?}");
}

#[tokio::test]
async fn in_a_large_conversation_typing_is_not_delivered() {
    let pair = Pair::on_postgres().await;
    pair.world.many_users(100).await;
    let members: Vec<String> = (0..100).map(|n| format!("u{n}")).collect();
    let members: Vec<&str> = members.iter().map(String::as_str).collect();
    pair.world.create(group("small", "ann", &members[..99])).await;
    pair.world.create(group("large", "ann", &members)).await;
    let mut inbox = Inbox::subscribe(&pair.world.messages(), "u0", &[], SubscribeStart::Now).await.unwrap();
    inbox.catch_up().await;
    pair.type_in("large", "ann").await.unwrap();
    pair.type_in("small", "ann").await.unwrap();
    let event = inbox.event().await;
    assert!(is_typing(&event, "ann") && event.conversation_id == "small", "{event:?}");
    inbox.is_silent_for(Duration::from_millis(200)).await;
}

#[tokio::test]
async fn only_members_may_send_typing() {
    let pair = Pair::on_postgres().await;
    pair.world.create(channel("c", "ann", &[])).await;
    pair.world.deactivate("dan").await;
    for _ in 0..2 {
        refused(pair.type_in("g", "cat").await, Code::NotFound, "CONVERSATION_NOT_FOUND");
        refused(pair.type_in("nowhere", "ann").await, Code::NotFound, "CONVERSATION_NOT_FOUND");
        refused(pair.type_in("c", "ben").await, Code::PermissionDenied, "NOT_A_MEMBER");
    }
    refused(pair.type_in("g", "missing").await, Code::NotFound, "USER_NOT_FOUND");
    refused(pair.type_in("g", "dan").await, Code::FailedPrecondition, "USER_DEACTIVATED");
    let status = refused(pair.type_in("no spaces", "~").await, Code::InvalidArgument, "INVALID_ARGUMENT");
    assert_eq!(violated_fields(&status), ["conversation_id", "actor_id"]);
}
