//! Compressed requests and responses: gzip and zstd, bounded when unpacked.

use parlance::{
    message::v1::{ListMessagesRequest, StreamMessagesRequest, stream_messages_response::Item},
    user::v1::BatchGetUsersRequest,
};
use tonic::{Code, codec::CompressionEncoding};

use crate::support::{PATIENCE, World, code_and_reason, group, metadata, send};

const ENCODINGS: [(CompressionEncoding, &str); 2] =
    [(CompressionEncoding::Gzip, "gzip"), (CompressionEncoding::Zstd, "zstd")];

async fn world() -> World {
    let world = World::new().await;
    world.users(&["ann"]).await;
    world.create(group("g", "ann", &[])).await;
    world
}

#[tokio::test]
async fn both_services_take_compressed_requests_and_answer_compressed_where_asked() {
    let world = world().await;
    for (encoding, name) in ENCODINGS {
        let mut messages = world.messages().send_compressed(encoding).accept_compressed(encoding);
        // Only pages are worth it.
        let ack = messages.send_message(send("g", "ann", &"hello ".repeat(1_000))).await.unwrap();
        assert!(ack.metadata().get("grpc-encoding").is_none(), "{ack:?}");
        let list = ListMessagesRequest {
            conversation_id: "g".to_owned(),
            actor_id: "ann".to_owned(),
            ..ListMessagesRequest::default()
        };
        let listed = messages.list_messages(list).await.unwrap();
        assert_eq!(listed.metadata().get("grpc-encoding").unwrap(), name);
        assert!(listed.into_inner().messages.iter().all(|message| message.text.starts_with("hello hello")));

        let mut users = world.user_service.users().send_compressed(encoding).accept_compressed(encoding);
        let user_ids = vec!["ann".to_owned()];
        let found = users.batch_get_users(BatchGetUsersRequest { user_ids }).await.unwrap();
        assert_eq!(found.metadata().get("grpc-encoding").unwrap(), name);
        assert_eq!(found.into_inner().users[0].user_id, "ann");
    }
}

#[tokio::test]
async fn a_stream_takes_a_compressed_request_and_sends_its_shared_frames_as_they_are() {
    let world = world().await;
    world.send("g", "ann", "hello").await;
    for (encoding, _) in ENCODINGS {
        let mut messages = world.messages().send_compressed(encoding).accept_compressed(encoding);
        let request = StreamMessagesRequest {
            conversation_id: "g".to_owned(),
            actor_id: "ann".to_owned(),
            after_sequence: Some(0),
            ..Default::default()
        };
        let stream = messages.stream_messages(request).await.unwrap();
        assert!(stream.metadata().get("grpc-encoding").is_none());
        let mut stream = stream.into_inner();
        let mut next = async || tokio::time::timeout(PATIENCE, stream.message()).await.unwrap().unwrap().unwrap().item;
        assert!(matches!(next().await, Some(Item::Heartbeat(_))));
        assert!(matches!(next().await, Some(Item::Event(event)) if event.sequence == 1));
    }
}

#[tokio::test]
async fn a_request_that_unpacks_beyond_the_limit_is_too_large() {
    let world = world().await;
    for (encoding, _) in ENCODINGS {
        // A few kilobytes on the wire.
        let request = send("g", "ann", &"x".repeat(4 << 20));
        let refusal = world.messages().send_compressed(encoding).send_message(request).await.unwrap_err();
        assert_eq!(code_and_reason(&refusal), (Code::ResourceExhausted, "REQUEST_TOO_LARGE".to_owned()));
        assert_eq!(metadata(&refusal, "limit_bytes"), "1048576");
    }
}
