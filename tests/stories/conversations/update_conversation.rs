//! `UpdateConversation`: mask, etag, and the fields that change with the title.

use parlance::message::v1::{Conversation, UpdateConversationRequest};
use prost_types::FieldMask;
use tonic::{Code, Status};

use super::log_summary;
use crate::support::{World, refused, strings, violated_fields};

fn request(title: &str, etag: &str, mask: Option<&[&str]>) -> UpdateConversationRequest {
    UpdateConversationRequest {
        conversation: Some(Conversation {
            conversation_id: "g".to_owned(),
            title: title.to_owned(),
            etag: etag.to_owned(),
            ..Default::default()
        }),
        update_mask: mask.map(|paths| FieldMask { paths: strings(paths) }),
        actor_id: "ann".to_owned(),
    }
}

async fn update(world: &World, request: UpdateConversationRequest) -> Result<Conversation, Status> {
    Ok(world.conversations().update_conversation(request).await?.into_inner())
}

#[tokio::test]
async fn a_title_changes_etag_and_update_time_and_a_send_does_not() {
    let world = World::with_group().await;
    let before = world.conversation("g", "ann").await.unwrap();
    world.send("g", "ben", "hello").await;
    let sent = world.conversation("g", "ann").await.unwrap();
    assert_eq!((&sent.etag, sent.update_time), (&before.etag, before.update_time));
    assert_eq!((sent.last_sequence, sent.message_count), (3, 1));
    assert!(sent.last_message_time.is_some());

    let titled = update(&world, request("Title", &sent.etag, None)).await.unwrap();
    assert_eq!((&*titled.title, titled.last_sequence, titled.message_count), ("Title", 4, 1));
    assert_ne!(titled.etag, sent.etag);
    assert_ne!(titled.update_time, sent.update_time);
    assert_eq!(world.conversation("g", "ben").await.unwrap(), titled);

    let log = world.log("g", "ben").await;
    let Some(parlance::message::v1::event::Kind::ConversationUpdated(received)) = &log[3].kind else {
        panic!("{log:?}")
    };
    assert_eq!((&*received.title, &received.etag, received.update_time), ("Title", &titled.etag, titled.update_time));
    assert_eq!((received.last_sequence, received.message_count, received.last_message_time), (0, 0, None));
}

#[tokio::test]
async fn setting_the_same_title_takes_no_sequence() {
    let world = World::with_group().await;
    let first = update(&world, request("Title", "", Some(&["title"]))).await.unwrap();
    assert_eq!(update(&world, request("Title", &first.etag, Some(&["*"]))).await.unwrap(), first);
    assert_eq!(log_summary(&world, "g", "ann").await[2..], ["ann: title Title"]);
}

#[tokio::test]
async fn a_stale_etag_is_aborted_even_when_nothing_would_change() {
    let world = World::with_group().await;
    let before = world.conversation("g", "ann").await.unwrap();
    update(&world, request("Title", &before.etag, None)).await.unwrap();
    for (title, etag) in [("Other", &*before.etag), ("Title", &before.etag), ("Other", "never"), ("Other", "\"x\"")] {
        refused(update(&world, request(title, etag, None)).await, Code::Aborted, "ETAG_MISMATCH");
    }
    assert_eq!(log_summary(&world, "g", "ann").await.len(), 3);
}

#[tokio::test]
async fn an_update_mask_accepts_the_title_or_a_wildcard() {
    let world = World::with_group().await;
    update(&world, request("Title", "", None)).await.unwrap();
    // Without a mask an empty title counts as not set; with one it is the new title.
    assert_eq!(update(&world, request("", "", None)).await.unwrap().title, "Title");
    assert_eq!(update(&world, request("", "", Some(&["title"]))).await.unwrap().title, "");
    for path in ["kind", "conversation_id", "conversation.title", "Title"] {
        let answer = update(&world, request("x", "", Some(&["title", path]))).await;
        let fields = violated_fields(&refused(answer, Code::InvalidArgument, "INVALID_ARGUMENT"));
        assert!(fields.len() == 1 && fields[0].starts_with("update_mask"), "{fields:?}");
    }
}

#[tokio::test]
async fn values_at_their_bounds_are_accepted_and_beyond_them_refused() {
    let world = World::with_group().await;
    update(&world, request(&"😀".repeat(256), "", None)).await.unwrap();
    for title in ["x".repeat(257), "a\0".to_owned()] {
        let status =
            refused(update(&world, request(&title, "", None)).await, Code::InvalidArgument, "INVALID_ARGUMENT");
        assert_eq!(violated_fields(&status), ["conversation.title"]);
    }
    let nothing = UpdateConversationRequest { conversation: None, ..request("x", "", None) };
    refused(update(&world, nothing).await, Code::InvalidArgument, "INVALID_ARGUMENT");
}
