//! Browsers: gRPC-Web over HTTP/1.1, CORS, host names, requests that cannot be read.

use std::time::Duration;

use parlance::message::v1::{
    Conversation, Cursor, Event, GetConversationRequest, SendTypingRequest, SendTypingResponse, StreamMessagesRequest,
    StreamMessagesResponse, SubscribeRequest, SubscribeResponse, SubscribeStart, event::Kind,
    stream_messages_response::Item, subscribe_response::Item as Received,
};
use tonic::Code;

use crate::support::{WebCall, World, code_and_reason, group, metadata};

const ORIGIN: &str = "https://chat.example";
const GET: &str = "/parlance.message.v1.ConversationService/GetConversation";
const STREAM: &str = "/parlance.message.v1.MessageService/StreamMessages";
const SUBSCRIBE: &str = "/parlance.message.v1.MessageService/Subscribe";
const TYPING: &str = "/parlance.message.v1.MessageService/SendTyping";

fn get(conversation_id: &str) -> GetConversationRequest {
    GetConversationRequest { conversation_id: conversation_id.to_owned(), actor_id: "ann".to_owned() }
}

async fn world() -> World {
    let world = World::with(&["--cors-allow-origin", ORIGIN]).await;
    world.users(&["ann"]).await;
    world.create(group("g", "ann", &[])).await;
    world
}

#[tokio::test]
async fn a_browser_from_an_allowed_origin_makes_calls_and_reads_errors() {
    let world = world().await;
    let address = world.message_service.address();
    let answer = WebCall::begin(address, GET, &[("origin", ORIGIN)], &get("g")).await.answer().await;
    assert_eq!((answer.http_status, answer.status().code()), (200, Code::Ok));
    assert_eq!(answer.messages::<Conversation>(), [world.conversation("g", "ann").await.unwrap()]);
    assert_eq!(answer.headers["access-control-allow-origin"], ORIGIN);
    let exposed = answer.headers["access-control-expose-headers"].to_lowercase();
    for header in ["grpc-status", "grpc-message", "grpc-status-details-bin"] {
        assert!(exposed.contains(header), "{exposed}");
    }

    let answer = WebCall::begin(address, GET, &[("origin", ORIGIN)], &get("none")).await.answer().await;
    let status = answer.status();
    assert_eq!(code_and_reason(&status), (Code::NotFound, "CONVERSATION_NOT_FOUND".to_owned()));
    assert_eq!(metadata(&status, "conversation_id"), "none");
    assert_eq!(answer.headers["access-control-allow-origin"], ORIGIN);
}

#[tokio::test]
async fn a_browser_streams_a_conversation() {
    let world = world().await;
    world.send("g", "ann", "hello").await;
    let request = StreamMessagesRequest {
        conversation_id: "g".to_owned(),
        actor_id: "ann".to_owned(),
        after_sequence: Some(0),
        ..Default::default()
    };
    let call = WebCall::begin(world.message_service.address(), STREAM, &[("origin", ORIGIN)], &request).await;
    // Over HTTP/1.1 and still open: a heartbeat, two entries, caught up, and one live entry.
    let (answer, _) = tokio::join!(call.first_messages(5), world.send("g", "ann", "live"));
    let items: Vec<Item> =
        answer.messages::<StreamMessagesResponse>().into_iter().map(|response| response.item.unwrap()).collect();
    let events = items.iter().filter(|item| matches!(item, Item::Event(_))).count();
    assert_eq!((events, items.len()), (3, 5));
    assert!(matches!(&items[0], Item::Heartbeat(beat) if !beat.epoch.is_empty()));
    assert_eq!(answer.headers["access-control-allow-origin"], ORIGIN);
}

#[tokio::test]
async fn a_browser_subscribes_to_all_conversations_and_sees_typing() {
    let world = world().await;
    world.users(&["ben"]).await;
    world.create(group("h", "ann", &["ben"])).await;
    let address = world.message_service.address();
    let cursors = vec![Cursor { conversation_id: "g".to_owned(), after_sequence: 0 }];
    let start = SubscribeStart::Now.into();
    let request = SubscribeRequest { actor_id: "ann".to_owned(), cursors, start, ..Default::default() };
    let call = WebCall::begin(address, SUBSCRIBE, &[("origin", ORIGIN)], &request).await;
    let typing = async {
        // Typing is delivered only to open streams, and at most once in two seconds.
        loop {
            let typing = SendTypingRequest { conversation_id: "h".to_owned(), actor_id: "ben".to_owned() };
            let answer = WebCall::begin(address, TYPING, &[("origin", ORIGIN)], &typing).await.answer().await;
            assert_eq!(answer.messages::<SendTypingResponse>().len(), 1);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    // A heartbeat, the entry of `g`, caught up for each conversation and for all, then live events.
    let answer = tokio::select! {
        answer = call.first_messages(6) => answer,
        () = typing => unreachable!(),
    };
    let received = answer.messages::<SubscribeResponse>().into_iter().map(|response| response.item.unwrap());
    let (mut entries, mut marks, mut typists) = (Vec::new(), Vec::new(), Vec::new());
    for item in received {
        match item {
            Received::Heartbeat(beat) => assert!(!beat.epoch.is_empty()),
            Received::CaughtUp(mark) => marks.push(mark.conversation_id),
            Received::Event(Event { kind: Some(Kind::Typing(_)), actor_id, .. }) => typists.push(actor_id),
            Received::Event(event) => entries.push((event.conversation_id, event.sequence)),
            other => panic!("{other:?}"),
        }
    }
    marks.sort_unstable();
    assert_eq!((entries, typists), (vec![("g".to_owned(), 1)], vec!["ben".to_owned()]));
    assert_eq!(marks, ["", "g", "h"]);
}

#[tokio::test]
async fn a_preflight_succeeds_for_allowed_origins_only() {
    let world = world().await;
    let ask = async |origin: &str| {
        let headers = [
            ("origin", origin),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "content-type,x-grpc-web,grpc-timeout"),
        ];
        WebCall::request(world.message_service.address(), "OPTIONS", GET, &headers, &[]).await.answer().await
    };
    let allowed = ask(ORIGIN).await;
    assert_eq!((allowed.http_status, &*allowed.headers["access-control-allow-origin"]), (200, ORIGIN));
    assert!(allowed.headers["access-control-allow-headers"].to_lowercase().contains("x-grpc-web"), "{allowed:?}");
    let other = ask("https://evil.example").await;
    assert!(!other.headers.contains_key("access-control-allow-origin"), "{other:?}");
}

#[tokio::test]
async fn a_host_name_other_than_loopback_is_refused() {
    let world = world().await;
    let call = WebCall::begin(world.message_service.address(), GET, &[("host", "evil.example")], &get("g")).await;
    let status = call.answer().await.status();
    assert_eq!(code_and_reason(&status), (Code::PermissionDenied, "HOST_NOT_ALLOWED".to_owned()));
}

#[tokio::test]
async fn a_page_of_another_origin_is_refused_by_both_services() {
    let world = world().await;
    let user = "/parlance.user.v1.UserService/GetUser";
    let calls = [(world.message_service.address(), GET), (world.user_service.address(), user)];
    for (address, path) in calls {
        let call = WebCall::begin(address, path, &[("origin", "https://evil.example")], &get("g")).await;
        let status = call.answer().await.status();
        assert_eq!(code_and_reason(&status), (Code::PermissionDenied, "ORIGIN_NOT_ALLOWED".to_owned()));
        assert_eq!(metadata(&status, "origin"), "https://evil.example");
    }
}

#[tokio::test]
async fn a_host_name_that_the_operator_allows_is_answered() {
    let world = World::with(&["--allow-host", "chat.example"]).await;
    world.users(&["ann"]).await;
    world.create(group("g", "ann", &[])).await;
    let headers = [("host", "chat.example:50052")];
    let call = WebCall::begin(world.message_service.address(), GET, &headers, &get("g")).await;
    assert_eq!(call.answer().await.status().code(), Code::Ok);
}

#[tokio::test]
async fn undecodable_bytes_are_a_malformed_request() {
    let world = world().await;
    // A frame of three bytes that do not decode: the length of field 1 is missing.
    let body = [0, 0, 0, 0, 3, 0x0a, 0x7f, 0x00];
    for path in [GET, STREAM, "/parlance.message.v1.MessageService/SendMessage"] {
        let headers = [("content-type", "application/grpc-web+proto")];
        let call = WebCall::request(world.message_service.address(), "POST", path, &headers, &body).await;
        let status = call.answer().await.status();
        assert_eq!(code_and_reason(&status), (Code::InvalidArgument, "MALFORMED_REQUEST".to_owned()), "{path}");
    }
    let unknown = "/parlance.message.v1.MessageService/Nothing";
    let status = WebCall::begin(world.message_service.address(), unknown, &[], &get("g")).await.answer().await.status();
    assert_eq!(code_and_reason(&status), (Code::Unimplemented, "UNIMPLEMENTED".to_owned()));
}
