//! `DeleteMessage`: the tombstone, repetition, entries that are no message. Permissions are with the roles of
//! conversations.

use parlance::message::v1::event::Kind;
use tonic::Code;

use super::{delete, edit, get};
use crate::support::{World, metadata, refused, violated_fields};

#[tokio::test]
async fn a_deleted_message_is_a_tombstone_everywhere() {
    let world = World::with_group().await;
    let sent = world.send("g", "ben", "secret").await;
    edit(&world, "g", sent.sequence, "ben", "more secret").await.unwrap();
    let tombstone = delete(&world, "g", sent.sequence, "ben").await.unwrap();
    assert_eq!((&*tombstone.text, tombstone.attributes.len()), ("", 0));
    assert_eq!((tombstone.sequence, tombstone.ordinal, tombstone.change_sequence), (3, 1, 5));
    assert_eq!((&*tombstone.sender_id, tombstone.create_time), ("ben", sent.create_time));
    assert!(tombstone.delete_time.is_some());
    assert_eq!(get(&world, "g", 3, "ann").await.unwrap(), tombstone);
    let log = world.log("g", "ann").await;
    assert!(matches!(&log[2].kind, Some(Kind::MessageSent(message)) if *message == tombstone), "{log:?}");
    assert!(matches!(&log[3].kind, Some(Kind::MessageEdited(message)) if *message == tombstone), "{log:?}");
    assert!(matches!(&log[4].kind, Some(Kind::MessageDeleted(message)) if *message == tombstone), "{log:?}");

    let (left,): (i64,) = sqlx::query_as("SELECT count(*) FROM parlance_message.messages WHERE text LIKE '%secret%'")
        .fetch_one(&mut world.database.connect().await)
        .await
        .unwrap();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn deleting_again_changes_nothing() {
    let world = World::with_group().await;
    world.send("g", "ben", "x").await;
    let tombstone = delete(&world, "g", 3, "ann").await.unwrap();
    for actor in ["ann", "ben"] {
        assert_eq!(delete(&world, "g", 3, actor).await.unwrap(), tombstone);
    }
    assert_eq!(world.log("g", "ann").await.len(), 4);
}

#[tokio::test]
async fn only_messages_can_be_deleted() {
    let world = World::with_group().await;
    for sequence in [1, 2, 3, i64::MAX] {
        let status = refused(delete(&world, "g", sequence, "ann").await, Code::NotFound, "MESSAGE_NOT_FOUND");
        assert_eq!(metadata(&status, "sequence"), sequence.to_string());
    }
    for sequence in [0, -1] {
        let status = refused(delete(&world, "g", sequence, "ann").await, Code::InvalidArgument, "INVALID_ARGUMENT");
        assert_eq!(violated_fields(&status), ["sequence"]);
    }
}
