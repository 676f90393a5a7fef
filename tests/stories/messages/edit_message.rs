//! `EditMessage`: text, attributes, masks, edits without a change, permissions.

use parlance::message::v1::{EditMessageRequest, Message, event::Kind};
use prost_types::FieldMask;
use tonic::{Code, Status};

use super::{attributes, delete, edit, get};
use crate::support::{World, channel, metadata, preconditions, refused, resource, send_as, strings, violated_fields};

fn request(text: &str, entries: &[(&str, &str)], mask: Option<&[&str]>) -> EditMessageRequest {
    EditMessageRequest {
        conversation_id: "g".to_owned(),
        sequence: 3,
        actor_id: "ann".to_owned(),
        text: text.to_owned(),
        attributes: attributes(entries),
        update_mask: mask.map(|paths| FieldMask { paths: strings(paths) }),
    }
}

async fn apply(world: &World, request: EditMessageRequest) -> Result<Message, Status> {
    Ok(world.messages().edit_message(request).await?.into_inner())
}

async fn with_message() -> World {
    let world = World::with_group().await;
    let asked = send_as("r", "g", "ann", "first");
    let asked = parlance::message::v1::SendMessageRequest { attributes: attributes(&[("k", "v")]), ..asked };
    assert_eq!(world.try_send(asked).await.unwrap().message.unwrap().sequence, 3);
    world
}

#[tokio::test]
async fn the_update_mask_selects_the_edited_fields() {
    let world = with_message().await;
    let edited = apply(&world, request("second", &[("ignored", "x")], None)).await.unwrap();
    assert_eq!((&*edited.text, &edited.attributes), ("second", &attributes(&[("k", "v")])));
    assert_eq!((edited.sequence, edited.change_sequence, edited.ordinal), (3, 4, 1));
    assert!(edited.edit_time.is_some());

    let edited = apply(&world, request("", &[("l", "w")], Some(&["attributes"]))).await.unwrap();
    assert_eq!((&*edited.text, &edited.attributes), ("second", &attributes(&[("l", "w")])));
    let edited = apply(&world, request("third", &[], Some(&["*"]))).await.unwrap();
    assert_eq!((&*edited.text, edited.attributes.len(), edited.change_sequence), ("third", 0, 6));
    let edited = apply(&world, request("fourth", &[("m", "x")], Some(&["attributes", "text"]))).await.unwrap();
    assert_eq!((&*edited.text, edited.change_sequence), ("fourth", 7));
    assert_eq!(get(&world, "g", 3, "ben").await.unwrap(), edited);

    // Each entry shows the current state of the message.
    let log = world.log("g", "ben").await;
    assert!(matches!(&log[2].kind, Some(Kind::MessageSent(message)) if *message == edited));
    for entry in &log[3..] {
        assert!(matches!(&entry.kind, Some(Kind::MessageEdited(message)) if *message == edited), "{entry:?}");
        assert_eq!(entry.actor_id, "ann");
    }
    assert_eq!(world.conversation("g", "ann").await.unwrap().message_count, 1);
}

#[tokio::test]
async fn an_edit_without_a_change_takes_no_sequence() {
    let world = with_message().await;
    let before = get(&world, "g", 3, "ann").await.unwrap();
    for same in [
        request("first", &[], None),
        request("", &[("k", "v")], Some(&["attributes"])),
        request("first", &[("k", "v")], Some(&["*"])),
    ] {
        assert_eq!(apply(&world, same).await.unwrap(), before);
    }
    assert_eq!(world.log("g", "ann").await.len(), 3);
    // Also when both are empty.
    let plain = world.send("g", "ann", "plain").await;
    let none = EditMessageRequest { sequence: 4, ..request("plain", &[], Some(&["*"])) };
    assert_eq!(apply(&world, none).await.unwrap(), plain);
    assert_eq!(world.log("g", "ann").await.len(), 4);
}

#[tokio::test]
async fn an_edit_has_the_bounds_of_a_message() {
    let world = with_message().await;
    apply(&world, request(&"x".repeat(16_384), &[], None)).await.unwrap();
    for (field, bad) in [
        ("text", request("", &[], None)),
        ("text", request(" \u{3000}", &[], Some(&["text"]))),
        ("text", request(&"x".repeat(16_385), &[], None)),
        ("text", request("a\0", &[], Some(&["*"]))),
        ("attributes", request("x", &[("", "v")], Some(&["attributes"]))),
        ("update_mask", request("x", &[], Some(&["sender_id"]))),
        ("sequence", EditMessageRequest { sequence: 0, ..request("x", &[], None) }),
        ("sequence", EditMessageRequest { sequence: -3, ..request("x", &[], None) }),
        ("actor_id", EditMessageRequest { actor_id: String::new(), ..request("x", &[], None) }),
    ] {
        let status = refused(apply(&world, bad).await, Code::InvalidArgument, "INVALID_ARGUMENT");
        let fields = violated_fields(&status);
        assert!(fields.len() == 1 && fields[0].starts_with(field), "{fields:?} for {field}");
    }
    // Fields outside the mask are not validated.
    apply(&world, request("", &[("l", "w")], Some(&["attributes"]))).await.unwrap();
}

#[tokio::test]
async fn only_the_sender_may_edit_and_only_while_a_member() {
    let world = with_message().await;
    world.create(channel("news", "ann", &["ben"])).await;
    let by_ben = world.send("news", "ben", "x").await.sequence;

    // Not even an owner edits messages of others.
    let status = refused(edit(&world, "news", by_ben, "ann", "y").await, Code::PermissionDenied, "NOT_THE_SENDER");
    assert_eq!((metadata(&status, "conversation_id"), metadata(&status, "sequence")), ("news".into(), "3".into()));
    refused(edit(&world, "g", 3, "ben", "y").await, Code::PermissionDenied, "NOT_THE_SENDER");

    world.remove("news", "ben", "ben").await.unwrap();
    refused(edit(&world, "news", by_ben, "ben", "y").await, Code::PermissionDenied, "NOT_A_MEMBER");
}

#[tokio::test]
async fn only_undeleted_messages_can_be_edited() {
    let world = with_message().await;
    for sequence in [1, 4, i64::MAX] {
        let status = refused(edit(&world, "g", sequence, "ann", "y").await, Code::NotFound, "MESSAGE_NOT_FOUND");
        assert_eq!(metadata(&status, "sequence"), sequence.to_string());
        assert_eq!(resource(&status).0, "parlance.message.v1.Message");
    }
    delete(&world, "g", 3, "ann").await.unwrap();
    let status = refused(edit(&world, "g", 3, "ann", "y").await, Code::FailedPrecondition, "MESSAGE_DELETED");
    assert_eq!((metadata(&status, "conversation_id"), metadata(&status, "sequence")), ("g".into(), "3".into()));
    assert_eq!(preconditions(&status).len(), 1);
}
