//! Retries with the same `request_id`: the original is returned, whatever has happened since, or the reuse is refused.

use parlance::message::v1::{MemberRole, SendMessageRequest};
use tonic::Code;

use super::{attributes, delete, edit, get};
use crate::support::{World, channel, metadata, refused, send_as};

#[tokio::test]
async fn a_retry_returns_the_original_message_in_its_current_state() {
    let world = World::with_group().await;
    let asked = SendMessageRequest { attributes: attributes(&[("k", "v")]), ..send_as("r", "g", "ben", "original") };
    let first = world.try_send(asked.clone()).await.unwrap().message.unwrap();
    let again = async || world.try_send(asked.clone()).await.unwrap();
    let repeat = again().await;
    assert_eq!((repeat.duplicate, repeat.message.as_ref()), (true, Some(&first)));

    let edited = edit(&world, "g", first.sequence, "ben", "edited").await.unwrap();
    assert_eq!(again().await.message, Some(edited.clone()));
    // The edited text under the same id is different content: the text as sent counts.
    let other = SendMessageRequest { text: "edited".to_owned(), ..asked.clone() };
    refused(world.try_send(other.clone()).await, Code::InvalidArgument, "REQUEST_ID_REUSED");

    world.remove("g", "ben", "ben").await.unwrap();
    let repeat = again().await;
    assert_eq!((repeat.duplicate, repeat.message), (true, Some(edited)));
    // A former member can send no new message.
    refused(world.try_send(send_as("new", "g", "ben", "x")).await, Code::NotFound, "CONVERSATION_NOT_FOUND");

    let tombstone = delete(&world, "g", first.sequence, "ann").await.unwrap();
    let repeat = again().await;
    assert_eq!((repeat.duplicate, repeat.message.as_ref()), (true, Some(&tombstone)));
    assert!(tombstone.text.is_empty() && tombstone.attributes.is_empty() && tombstone.delete_time.is_some());
    // The deleted text is gone, so it is not compared any more.
    assert_eq!(world.try_send(other).await.unwrap().message, Some(tombstone));
    // joined, joined, sent, edited, left, deleted.
    assert_eq!(world.log("g", "ann").await.len(), 6);
}

#[tokio::test]
async fn a_retry_in_a_channel_succeeds_after_leaving_it() {
    let world = World::with_group().await;
    world.create(channel("news", "ann", &["ben"])).await;
    let first = world.try_send(send_as("r", "news", "ben", "x")).await.unwrap().message;
    world.remove("news", "ann", "ben").await.unwrap();
    let repeat = world.try_send(send_as("r", "news", "ben", "x")).await.unwrap();
    assert_eq!((repeat.duplicate, repeat.message), (true, first));
    refused(world.try_send(send_as("s", "news", "ben", "x")).await, Code::PermissionDenied, "NOT_A_MEMBER");
}

#[tokio::test]
async fn different_content_under_the_same_request_id_is_refused() {
    let world = World::with_group().await;
    let first = world.send("g", "ann", "question").await.sequence;
    let asked = SendMessageRequest {
        attributes: attributes(&[("k", "v"), ("l", "w")]),
        reply_to_sequence: first,
        ..send_as("r", "g", "ann", "text")
    };
    let stored = world.try_send(asked.clone()).await.unwrap().message.unwrap();
    for other in [
        SendMessageRequest { text: "Text".to_owned(), ..asked.clone() },
        SendMessageRequest { attributes: attributes(&[("k", "v")]), ..asked.clone() },
        SendMessageRequest { attributes: attributes(&[("k", "w"), ("l", "v")]), ..asked.clone() },
        SendMessageRequest { reply_to_sequence: 0, ..asked.clone() },
    ] {
        let status = refused(world.try_send(other).await, Code::InvalidArgument, "REQUEST_ID_REUSED");
        assert_eq!(metadata(&status, "request_id"), "r");
    }
    assert_eq!(get(&world, "g", stored.sequence, "ann").await.unwrap(), stored);
}

#[tokio::test]
async fn a_request_id_is_scoped_to_a_sender_and_a_conversation() {
    let world = World::with_group().await;
    world.create(crate::support::group("h", "ann", &[])).await;
    let mut sequences = Vec::new();
    for (conversation, sender) in [("g", "ann"), ("g", "ben"), ("h", "ann")] {
        let answer = world.try_send(send_as("r", conversation, sender, &format!("{conversation} {sender}"))).await;
        let answer = answer.unwrap();
        assert!(!answer.duplicate);
        sequences.push(answer.message.unwrap().sequence);
    }
    assert_eq!(sequences, [3, 4, 2]);
}

#[tokio::test]
async fn a_retry_after_rejoining_is_still_a_duplicate() {
    let world = World::with_group().await;
    let first = world.try_send(send_as("r", "g", "ben", "x")).await.unwrap().message;
    world.remove("g", "ann", "ben").await.unwrap();
    world.add("g", "ann", &["ben"], MemberRole::Member).await.unwrap();
    let repeat = world.try_send(send_as("r", "g", "ben", "x")).await.unwrap();
    assert_eq!((repeat.duplicate, repeat.message), (true, first));
}

#[tokio::test]
async fn another_replica_recognises_a_retry() {
    let world = World::with_group().await;
    let replica = world.replica().await;
    let first = world.try_send(send_as("r", "g", "ann", "x")).await.unwrap().message;
    let repeat = replica.messages().send_message(send_as("r", "g", "ann", "x")).await.unwrap().into_inner();
    assert_eq!((repeat.duplicate, repeat.message), (true, first));
    let other = replica.messages().send_message(send_as("r", "g", "ann", "y")).await;
    refused(other, Code::InvalidArgument, "REQUEST_ID_REUSED");
}
