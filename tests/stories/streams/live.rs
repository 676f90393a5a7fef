//! Live events: every kind of entry, in its state at that time, and nothing twice.

use std::time::Duration;

use parlance::message::v1::{Conversation, MemberRole, UpdateConversationRequest, UpdateMemberRequest, event::Kind};

use super::follow;
use crate::support::{PATIENCE, World, eventually, send_as};

#[tokio::test]
async fn every_kind_of_entry_is_delivered_live() {
    let world = World::with_group().await;
    let mut reader = follow(&world, "ben", Some(0)).await.unwrap();
    assert_eq!(reader.catch_up().await.1, 2);

    let sent = world.send("g", "ann", "first").await;
    assert!(matches!(reader.event().await.kind, Some(Kind::MessageSent(message)) if message == sent));

    let edited = edit(&world, "second").await;
    let event = reader.event().await;
    assert_eq!((&*event.actor_id, event.event_time), ("ann", edited.edit_time));
    assert!(matches!(event.kind, Some(Kind::MessageEdited(message)) if message == edited));

    let delete = parlance::message::v1::DeleteMessageRequest {
        conversation_id: "g".to_owned(),
        sequence: 3,
        actor_id: "ann".to_owned(),
    };
    let tombstone = world.messages().delete_message(delete).await.unwrap().into_inner();
    assert!(matches!(reader.event().await.kind, Some(Kind::MessageDeleted(message)) if message == tombstone));

    world.add("g", "ann", &["cat"], MemberRole::Admin).await.unwrap();
    let Some(Kind::MemberJoined(joined)) = reader.event().await.kind else { panic!() };
    assert_eq!((&*joined.user_id, joined.role()), ("cat", MemberRole::Admin));
    assert!(joined.join_time.is_some());

    let role = UpdateMemberRequest {
        conversation_id: "g".to_owned(),
        actor_id: "ann".to_owned(),
        user_id: "cat".to_owned(),
        role: MemberRole::Member.into(),
    };
    world.conversations().update_member(role).await.unwrap();
    let Some(Kind::MemberUpdated(updated)) = reader.event().await.kind else { panic!() };
    assert_eq!((&*updated.user_id, updated.role(), updated.join_time), ("cat", MemberRole::Member, joined.join_time));

    let title = Conversation { conversation_id: "g".to_owned(), title: "Title".to_owned(), ..Default::default() };
    let title = UpdateConversationRequest { conversation: Some(title), update_mask: None, actor_id: "ann".to_owned() };
    let titled = world.conversations().update_conversation(title).await.unwrap().into_inner();
    let Some(Kind::ConversationUpdated(received)) = reader.event().await.kind else { panic!() };
    assert_eq!((received.title, received.etag, received.update_time), (titled.title, titled.etag, titled.update_time));

    world.remove("g", "cat", "cat").await.unwrap();
    let event = reader.event().await;
    assert!(matches!(event.kind, Some(Kind::MemberLeft(left)) if left.user_id == "cat"));
    assert_eq!((&*event.actor_id, event.sequence), ("cat", 9));
    assert_eq!(reader.caught_up(), Some(2));
}

async fn edit(world: &World, text: &str) -> parlance::message::v1::Message {
    let request = parlance::message::v1::EditMessageRequest {
        conversation_id: "g".to_owned(),
        sequence: 3,
        actor_id: "ann".to_owned(),
        text: text.to_owned(),
        ..Default::default()
    };
    world.messages().edit_message(request).await.unwrap().into_inner()
}

#[tokio::test]
async fn a_subscriber_after_an_edit_never_sees_the_old_text() {
    let world = World::with_group().await;
    // With a subscriber, so that the message is in memory.
    let mut first = follow(&world, "ann", None).await.unwrap();
    first.catch_up().await;
    world.send("g", "ann", "old").await;
    for round in 0..20 {
        let text = format!("new {round}");
        edit(&world, &text).await;
        let mut reader = follow(&world, "ben", Some(2)).await.unwrap();
        let (events, _) = reader.catch_up().await;
        let Some(Kind::MessageSent(message)) = &events[0].kind else { panic!("{events:?}") };
        assert_eq!(message.text, text);
    }
    first.up_to(23).await;
}

#[tokio::test]
async fn requests_that_store_nothing_deliver_nothing() {
    let world = World::with_group().await;
    let mut reader = follow(&world, "ben", None).await.unwrap();
    reader.catch_up().await;
    let first = crate::support::send_as("r", "g", "ann", "once");
    world.try_send(first.clone()).await.unwrap();
    // A retry, a refusal, an update without a change.
    world.try_send(first).await.unwrap();
    world.try_send(crate::support::send("g", "cat", "x")).await.unwrap_err();
    edit(&world, "once").await;
    world.add("g", "ann", &["ben"], MemberRole::Member).await.unwrap();
    let last = world.send("g", "ann", "last").await;
    assert_eq!(last.sequence, 4);
    assert_eq!(reader.up_to(4).await.len(), 2);
}

#[tokio::test]
async fn an_idle_stream_sends_heartbeats() {
    let world = World::with_group().await;
    let mut reader = follow(&world, "ben", Some(0)).await.unwrap();
    reader.catch_up().await;
    for _ in 0..3 {
        // The services run in this test's runtime: the paused clock is theirs, too, and jumps over the longest silence.
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(30)).await;
        tokio::time::resume();
        reader.heartbeat().await;
    }
    // The jumps have also cut the connection between the services, so the client retries.
    eventually(PATIENCE, || world.try_send(send_as("after-silence", "g", "ann", "x"))).await;
    assert_eq!(reader.event().await.sequence, 3);
}
