//! `GetMessage`.

use tonic::Code;

use super::get;
use crate::support::{World, metadata, refused, resource, violated_fields};

#[tokio::test]
async fn only_the_sequence_of_a_message_returns_one() {
    let world = World::with_group().await;
    let sent = world.send("g", "ann", "x").await;
    assert_eq!(get(&world, "g", 3, "ben").await.unwrap(), sent);
    for sequence in [1, 2, 4, i64::MAX] {
        let status = refused(get(&world, "g", sequence, "ben").await, Code::NotFound, "MESSAGE_NOT_FOUND");
        let about = (metadata(&status, "conversation_id"), metadata(&status, "sequence"));
        assert_eq!(about, ("g".to_owned(), sequence.to_string()));
        assert_eq!(resource(&status).0, "parlance.message.v1.Message");
    }
    for sequence in [0, -1] {
        let status = refused(get(&world, "g", sequence, "ben").await, Code::InvalidArgument, "INVALID_ARGUMENT");
        assert_eq!(violated_fields(&status), ["sequence"]);
    }
    let status = refused(get(&world, "", 0, "").await, Code::InvalidArgument, "INVALID_ARGUMENT");
    assert_eq!(violated_fields(&status), ["conversation_id", "sequence", "actor_id"]);
}
