//! `SendMessage`: the stored message, bounds, replies, permissions.

use std::collections::BTreeMap;

use parlance::message::v1::{ConversationKind, SendMessageRequest};
use tonic::Code;

use super::{attributes, get};
use crate::support::{World, channel, direct, metadata, refused, resource, send, send_as, violated_fields};

#[tokio::test]
async fn a_send_returns_the_stored_message() {
    let world = World::with_group().await;
    let asked = SendMessageRequest {
        attributes: attributes(&[("color", "blue"), ("empty", "")]),
        ..send_as("r1", "g", "ann", "  Grüße 👋\n")
    };
    let answer = world.try_send(asked).await.unwrap();
    assert!(!answer.duplicate);
    let message = answer.message.unwrap();
    assert_eq!((&*message.conversation_id, message.sequence, message.ordinal), ("g", 3, 1));
    assert_eq!((&*message.sender_id, &*message.request_id, &*message.text), ("ann", "r1", "  Grüße 👋\n"));
    assert_eq!(message.attributes, attributes(&[("color", "blue"), ("empty", "")]));
    assert_eq!((message.reply_to_sequence, message.change_sequence), (0, 3));
    assert!(message.create_time.is_some() && message.edit_time.is_none() && message.delete_time.is_none());
    assert_eq!(get(&world, "g", 3, "ben").await.unwrap(), message);

    let head = world.conversation("g", "ben").await.unwrap();
    assert_eq!((head.last_sequence, head.message_count, head.last_message_time), (3, 1, message.create_time));
}

#[tokio::test]
async fn a_send_without_a_request_id_gets_one_from_the_service() {
    let world = World::with_group().await;
    let first = world.send("g", "ann", "same").await;
    let second = world.send("g", "ann", "same").await;
    assert_eq!((first.sequence, second.sequence), (3, 4));
    assert!(!first.request_id.is_empty() && first.request_id.len() <= 64);
    assert_ne!(first.request_id, second.request_id);
    let repeat = world.try_send(send_as(&first.request_id, "g", "ann", "same")).await.unwrap();
    assert_eq!((repeat.duplicate, repeat.message), (true, Some(first)));
}

#[tokio::test]
async fn text_bounds_are_enforced() {
    let world = World::with_group().await;
    for text in ["x".repeat(16_384), "é".repeat(8_192), "👋".repeat(4_096), ".".to_owned(), "\u{200b}".to_owned()] {
        assert_eq!(world.send("g", "ann", &text).await.text, text);
    }
    for text in [
        String::new(),
        " \t\r\n".to_owned(),
        "\u{2003}\u{3000}\u{a0}\u{85}".to_owned(),
        "x".repeat(16_385),
        "é".repeat(8_192) + "x",
        "👋".repeat(4_096) + "x",
        "a\0b".to_owned(),
    ] {
        let answer = world.try_send(send("g", "ann", &text)).await;
        let status = refused(answer, Code::InvalidArgument, "INVALID_ARGUMENT");
        assert_eq!(violated_fields(&status), ["text"]);
    }
    assert_eq!(world.log("g", "ann").await.len(), 7);
}

#[tokio::test]
async fn attribute_bounds_are_enforced() {
    let world = World::with_group().await;
    let with = |attributes| SendMessageRequest { attributes, ..send("g", "ann", "x") };
    let numbered = |count: usize| (0..count).map(|n| (format!("k{n}"), "v".to_owned())).collect();
    for ok in [
        numbered(16),
        attributes(&[(&"k".repeat(64), "v")]),
        attributes(&[(&"é".repeat(32), "v")]),
        attributes(&[("k", &"v".repeat(4_095))]),
    ] {
        let stored = world.try_send(with(BTreeMap::clone(&ok))).await.unwrap().message.unwrap();
        assert_eq!(stored.attributes, ok);
        assert_eq!(get(&world, "g", stored.sequence, "ben").await.unwrap(), stored);
    }
    for bad in [
        numbered(17),
        attributes(&[("", "v")]),
        attributes(&[(&"k".repeat(65), "v")]),
        attributes(&[(&("é".repeat(32) + "k"), "v")]),
        attributes(&[("k", &"v".repeat(4_096))]),
        attributes(&[("k\0", "v")]),
        attributes(&[("k", "v\0")]),
    ] {
        let status = refused(world.try_send(with(bad)).await, Code::InvalidArgument, "INVALID_ARGUMENT");
        let fields = violated_fields(&status);
        assert!(fields.len() == 1 && fields[0].starts_with("attributes"), "{fields:?}");
    }
}

#[tokio::test]
async fn all_violations_are_reported_at_once() {
    let world = World::with_group().await;
    let bad = SendMessageRequest {
        attributes: attributes(&[("", "")]),
        reply_to_sequence: -1,
        ..send_as(&"r".repeat(65), "a b", "", "")
    };
    let mut fields = violated_fields(&refused(world.try_send(bad).await, Code::InvalidArgument, "INVALID_ARGUMENT"));
    fields.sort();
    assert_eq!(fields, ["attributes", "conversation_id", "reply_to_sequence", "request_id", "sender_id", "text"]);
    for request_id in ["é", "a\0b", "a\nb"] {
        let answer = world.try_send(send_as(request_id, "g", "ann", "x")).await;
        assert_eq!(violated_fields(&refused(answer, Code::InvalidArgument, "INVALID_ARGUMENT")), ["request_id"]);
    }
    world.try_send(send_as(&"~ ".repeat(32), "g", "ann", "x")).await.unwrap();
}

#[tokio::test]
async fn a_reply_must_refer_to_a_message() {
    let world = World::with_group().await;
    let first = world.send("g", "ann", "question").await.sequence;
    let reply = |to: i64| SendMessageRequest { reply_to_sequence: to, ..send("g", "ben", "answer") };
    let answer = world.try_send(reply(first)).await.unwrap().message.unwrap();
    assert_eq!(answer.reply_to_sequence, first);
    // Neither another kind of entry nor a sequence beyond the head.
    for to in [1, 2, 5, 6, 1_000, i64::MAX] {
        let status = refused(world.try_send(reply(to)).await, Code::NotFound, "MESSAGE_NOT_FOUND");
        assert_eq!(
            (metadata(&status, "conversation_id"), metadata(&status, "sequence")),
            ("g".to_owned(), to.to_string())
        );
        assert_eq!(resource(&status).0, "parlance.message.v1.Message");
    }
    // A deleted message is still a message.
    super::delete(&world, "g", first, "ann").await.unwrap();
    assert_eq!(world.try_send(reply(first)).await.unwrap().message.unwrap().sequence, 6);
}

#[tokio::test]
async fn only_members_may_send() {
    let world = World::with_group().await;
    let status = refused(world.try_send(send("g", "cat", "x")).await, Code::NotFound, "CONVERSATION_NOT_FOUND");
    assert_eq!(metadata(&status, "conversation_id"), "g");
    refused(world.try_send(send("none", "ann", "x")).await, Code::NotFound, "CONVERSATION_NOT_FOUND");
    refused(world.try_send(send("g", "missing", "x")).await, Code::NotFound, "USER_NOT_FOUND");

    world.create(channel("news", "ann", &[])).await;
    let status = refused(world.try_send(send("news", "ben", "x")).await, Code::PermissionDenied, "NOT_A_MEMBER");
    assert_eq!((metadata(&status, "conversation_id"), metadata(&status, "user_id")), ("news".into(), "ben".into()));

    let pair = world.create(direct("ann", "cat")).await;
    assert_eq!(pair.kind(), ConversationKind::Direct);
    assert_eq!(world.send(&pair.conversation_id, "cat", "x").await.sequence, 3);
}
