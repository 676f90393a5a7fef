//! Limits of a whole call: its size, its deadline, the queue of writes.

use parlance::message::v1::{AddMembersRequest, SendMessageRequest};
use tonic::Code;

use super::attributes;
use crate::support::{WebCall, World, code_and_reason, metadata, refused, send};

#[tokio::test]
async fn a_request_beyond_a_mebibyte_is_too_large() {
    let world = World::with_group().await;
    let large = "x".repeat(1024 * 1024 + 1);
    let status = refused(world.try_send(send("g", "ann", &large)).await, Code::ResourceExhausted, "REQUEST_TOO_LARGE");
    assert_eq!(metadata(&status, "limit_bytes"), "1048576");
    let padded = SendMessageRequest { attributes: attributes(&[("k", &large)]), ..send("g", "ann", "x") };
    refused(world.try_send(padded).await, Code::ResourceExhausted, "REQUEST_TOO_LARGE");
    let many = AddMembersRequest {
        conversation_id: "g".to_owned(),
        actor_id: "ann".to_owned(),
        user_ids: vec!["x".repeat(64); 20_000],
        role: 0,
    };
    refused(world.conversations().add_members(many).await, Code::ResourceExhausted, "REQUEST_TOO_LARGE");
    assert_eq!(world.log("g", "ann").await.len(), 2);
}

#[tokio::test]
async fn a_call_past_its_deadline_is_deadline_exceeded() {
    let world = World::with_group().await;
    // A lock on the conversation outlasts the client's deadline. A browser's client, since others also enforce the
    // deadline themselves and would hide the server's response.
    let mut outside = world.database.connect().await;
    let hold = "BEGIN; SELECT FROM parlance_message.conversations WHERE conversation_id = 'g' FOR UPDATE";
    sqlx::raw_sql(hold).execute(&mut outside).await.unwrap();
    let path = "/parlance.message.v1.MessageService/SendMessage";
    let (address, request) = (world.message_service.address(), send("g", "ann", "x"));
    let status = WebCall::begin(address, path, &[("grpc-timeout", "100m")], &request).await.answer().await.status();
    assert_eq!(code_and_reason(&status), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED".to_owned()), "{status:?}");
    sqlx::raw_sql("ROLLBACK").execute(&mut outside).await.unwrap();
}
