//! Ids of identity providers, mapped as `docs/USER-IDS.md` says, serve in every kind of call.

use parlance::{
    message::v1::{ListConversationsRequest, SubscribeStart},
    user::v1::CreateUserRequest,
};
use tonic::Code;

use super::by_id;
use crate::support::{Inbox, Reader, Session, World, direct, refused};

/// The document's examples: an id of a provider, and the user id.
fn examples() -> Vec<(String, String)> {
    let page = include_str!("../../../docs/USER-IDS.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.strip_suffix("` |")?.split_once("` | `"));
    rows.map(|(given, user_id)| (given.replace(r"\|", "|"), user_id.to_owned())).collect()
}

/// Maps an id as the document says.
fn user_id(given: &str) -> String {
    let encode = |byte: u8| match byte {
        b'.' | b'_' | b'-' => char::from(byte).to_string(),
        _ if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        _ => format!("~{byte:02X}"),
    };
    let prefix = if given.starts_with(|first: char| first.is_ascii_alphanumeric()) { "" } else { "_" };
    given.bytes().fold(prefix.to_owned(), |text, byte| text + &encode(byte))
}

#[tokio::test]
async fn mapped_ids_serve_in_every_kind_of_call() {
    let world = World::new().await;
    world.users(&["ann"]).await;
    let examples = examples();
    assert_eq!(examples.len(), 8);
    for (number, (given, expected)) in examples.iter().enumerate() {
        assert_eq!(user_id(given), *expected, "{given}");
        let new = CreateUserRequest {
            user_id: expected.clone(),
            username: format!("user{number}"),
            ..CreateUserRequest::default()
        };
        let mut users = world.user_service.users();
        let unmapped = CreateUserRequest { user_id: given.clone(), ..new.clone() };
        if given.contains(|c: char| !c.is_ascii_alphanumeric() && !"._~-".contains(c)) {
            refused(users.create_user(unmapped).await, Code::InvalidArgument, "INVALID_ARGUMENT");
        }
        users.create_user(new).await.unwrap();
        assert_eq!(users.get_user(by_id(expected)).await.unwrap().into_inner().user_id, *expected);

        let id = world.create(direct(expected, "ann")).await.conversation_id;
        let sent = world.send(&id, expected, "hello").await;
        assert_eq!(sent.sender_id, *expected);
        let request = ListConversationsRequest { actor_id: expected.clone(), ..Default::default() };
        let listed = world.conversations().list_conversations(request).await.unwrap().into_inner();
        assert_eq!(listed.items[0].membership.as_ref().unwrap().user_id, *expected);
        let mut reader = Reader::open(&world.messages(), &id, expected, Some(0)).await.unwrap();
        assert_eq!(reader.up_to(sent.sequence).await.len(), 3);
        let mut session = Session::send_only(&world.messages(), expected).await.unwrap();
        session.send(&id, "from a session");
        session.answer().await.unwrap();
        let mut inbox = Inbox::subscribe(&world.messages(), expected, &[(&id, 0)], SubscribeStart::Now).await.unwrap();
        assert!(!inbox.catch_up().await.is_empty());
    }
}
