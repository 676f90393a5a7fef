//! The inputs that each target begins with: real messages, which the fuzzer then changes.

use std::time::Duration;

use parlance::{
    message::v1::{
        Ack, AddMembersRequest, CaughtUp, ChatCursors, ChatOpen, ChatRequest, ChatResponse, Closed, Conversation,
        CreateConversationRequest, Cursor, Draining, EditMessageRequest, Event, Heartbeat, ListConversationsRequest,
        ListEventsRequest, ListMessagesRequest, MarkReadRequest, Message as WireMessage, Nack, Opened,
        SendMessageRequest, SendTypingRequest, StreamMessagesRequest, SubscribeRequest, Truncated,
        UpdateConversationRequest, UpdateMemberRequest, chat_request::Frame, chat_response::Item, event::Kind,
    },
    user::v1::{BatchGetUsersRequest, CreateUserRequest, ListUsersRequest, UpdateUserRequest, User},
};
use prost::Message;
use prost_types::FieldMask;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt, pb};

fn own(text: &str) -> String {
    text.to_owned()
}

fn mask(paths: &[&str]) -> FieldMask {
    FieldMask { paths: paths.iter().copied().map(own).collect() }
}

fn of_rpc(rpc: u8, request: &impl Message) -> Vec<u8> {
    [vec![rpc], request.encode_to_vec()].concat()
}

fn send_request() -> SendMessageRequest {
    SendMessageRequest {
        conversation_id: own("general"),
        sender_id: own("ada"),
        text: own("hello"),
        attributes: [(own("key"), own("value"))].into(),
        reply_to_sequence: 1,
        request_id: own("r-1"),
    }
}

/// A request with the fields that many requests begin with: two ids and a number.
fn plain() -> MarkReadRequest {
    MarkReadRequest { conversation_id: own("general"), actor_id: own("ada"), sequence: 7 }
}

fn cursors() -> Vec<Cursor> {
    vec![Cursor { conversation_id: own("general"), after_sequence: 7 }]
}

/// By the numbers that `message_service::fuzzing::request` gives the RPCs.
pub(crate) fn message_requests() -> Vec<Vec<u8>> {
    let (conversation_id, actor_id) = (own("general"), own("ada"));
    let conversation = Conversation {
        conversation_id: conversation_id.clone(),
        title: own("General"),
        description: own("All"),
        avatar_url: own("https://chat.example/a.png"),
        etag: own("\"1\""),
        ..Conversation::default()
    };
    let direct = CreateConversationRequest {
        kind: 1,
        creator_id: actor_id.clone(),
        member_ids: vec![own("bob")],
        ..CreateConversationRequest::default()
    };
    let group = CreateConversationRequest { kind: 2, title: own("G"), request_id: own("r"), ..direct.clone() };
    let update_mask = Some(mask(&["title", "avatar_url"]));
    let update =
        UpdateConversationRequest { conversation: Some(conversation), update_mask, actor_id: actor_id.clone() };
    let user_ids = vec![own("bob"), own("eve")];
    let add =
        AddMembersRequest { conversation_id: conversation_id.clone(), actor_id: actor_id.clone(), user_ids, role: 3 };
    let user_id = own("bob");
    let member =
        UpdateMemberRequest { conversation_id: conversation_id.clone(), actor_id: actor_id.clone(), user_id, role: 2 };
    let edit = EditMessageRequest {
        conversation_id: conversation_id.clone(),
        sequence: 7,
        actor_id: actor_id.clone(),
        text: own("hi"),
        update_mask: Some(mask(&["text"])),
        ..EditMessageRequest::default()
    };
    let inbox = ListConversationsRequest { actor_id: actor_id.clone(), page_size: 20, page_token: own("token") };
    let messages = ListMessagesRequest {
        conversation_id: conversation_id.clone(),
        actor_id: actor_id.clone(),
        page_size: 20,
        after_sequence: Some(1),
        before_sequence: Some(9),
        order: 2,
        ..ListMessagesRequest::default()
    };
    let events = ListEventsRequest {
        conversation_id: conversation_id.clone(),
        actor_id: actor_id.clone(),
        after_sequence: 1,
        page_size: 9,
    };
    let stream = StreamMessagesRequest {
        conversation_id,
        actor_id: actor_id.clone(),
        after_sequence: Some(3),
        epoch: own("one"),
    };
    let subscribe = SubscribeRequest { actor_id, cursors: cursors(), start: 1, epoch: own("one") };
    let key = [&[17][..], &7_i64.to_be_bytes(), b"general"].concat();
    let requests = [
        of_rpc(0, &send_request()),
        of_rpc(1, &direct),
        of_rpc(1, &group),
        of_rpc(2, &update),
        of_rpc(3, &add),
        of_rpc(4, &member),
        of_rpc(5, &member),
        of_rpc(6, &edit),
        of_rpc(11, &inbox),
        of_rpc(14, &messages),
        of_rpc(15, &events),
        of_rpc(16, &stream),
        of_rpc(18, &subscribe),
        key,
    ];
    let plain = [7, 8, 9, 10, 12, 13].map(|rpc| of_rpc(rpc, &plain()));
    requests.into_iter().chain(plain).collect()
}

/// By the numbers that `user_service::fuzzing::request` gives the RPCs.
pub(crate) fn user_requests() -> Vec<Vec<u8>> {
    let create = CreateUserRequest {
        user_id: own("ada"),
        username: own("Ada"),
        display_name: own("Ada L."),
        request_id: own("r-1"),
    };
    let user = User { user_id: own("ada"), username: own("Ada"), etag: own("\"1\""), ..User::default() };
    let update = UpdateUserRequest { user: Some(user), update_mask: Some(mask(&["username"])) };
    let batch = BatchGetUsersRequest { user_ids: vec![own("ada"), own("bob")] };
    let list =
        ListUsersRequest { page_size: 9, username_prefix: own("a"), show_deleted: true, ..ListUsersRequest::default() };
    let delete = CreateUserRequest { user_id: own("ada"), username: own("\"1\""), ..CreateUserRequest::default() };
    let mut requests =
        vec![of_rpc(0, &create), of_rpc(2, &batch), of_rpc(3, &list), of_rpc(4, &update), of_rpc(5, &delete)];
    requests.extend([1, 6, 7].map(|rpc| of_rpc(rpc, &create)));
    requests
}

/// Sessions, as length-delimited frames.
pub(crate) fn chat_frames() -> Vec<Vec<u8>> {
    let open = ChatOpen {
        actor_id: own("ada"),
        cursors: cursors(),
        start: 1,
        send_only: false,
        epoch: own("one"),
        more_cursors: true,
    };
    let more = ChatCursors { cursors: cursors(), more_cursors: false };
    let typing = SendTypingRequest { conversation_id: own("general"), actor_id: own("ada") };
    let frames = [
        Frame::Open(open),
        Frame::Cursors(more),
        Frame::Send(send_request()),
        Frame::MarkRead(plain()),
        Frame::Typing(typing),
    ];
    let encoded: Vec<Vec<u8>> = (1..)
        .zip(frames)
        .map(|(frame_id, frame)| ChatRequest { frame_id, frame: Some(frame) }.encode_length_delimited_to_vec())
        .collect();
    encoded.iter().cloned().chain([encoded.concat()]).collect()
}

/// What a service sends in a session, as length-delimited items after the number of frames that wait.
pub(crate) fn answers() -> Vec<Vec<u8>> {
    let conversation_id = own("general");
    let event = |sequence| Event {
        conversation_id: own("general"),
        sequence,
        kind: Some(Kind::MessageSent(WireMessage { sequence, text: own("hi"), ..WireMessage::default() })),
        ..Event::default()
    };
    // A status with a reason and a delay, as the services encode it.
    let busy = busy();
    let items = [
        Item::Opened(Opened { frame_id: 1 }),
        Item::Event(event(7)),
        Item::Event(event(8)),
        Item::CaughtUp(CaughtUp { conversation_id: conversation_id.clone(), sequence: 8 }),
        Item::Event(event(i64::MAX)),
        Item::CaughtUp(CaughtUp { conversation_id: own("random"), sequence: i64::MAX }),
        Item::Truncated(Truncated { conversation_id: own("other"), oldest_sequence: i64::MIN }),
        Item::CaughtUp(CaughtUp::default()),
        Item::Heartbeat(Heartbeat { epoch: own("one") }),
        Item::Ack(Ack { frame_id: 1, conversation_id: conversation_id.clone(), sequence: 9, ..Ack::default() }),
        Item::Nack(Nack { frame_id: 2, status: Some(busy.clone()) }),
        Item::Truncated(Truncated { conversation_id: conversation_id.clone(), oldest_sequence: 5 }),
        Item::Draining(Draining { retry_delay: Some(prost_types::Duration { seconds: 1, nanos: 5 }) }),
        Item::Closed(Closed { conversation_id, status: Some(busy) }),
    ];
    let encoded: Vec<Vec<u8>> =
        items.into_iter().map(|item| ChatResponse { item: Some(item) }.encode_length_delimited_to_vec()).collect();
    encoded.iter().cloned().chain([encoded.concat()]).map(|items| [vec![3], items].concat()).collect()
}

fn busy() -> pb::Status {
    let mut details = ErrorDetails::new();
    details.set_error_info("OVERLOADED", "parlance", [(own("limit"), own("9"))]);
    details.set_retry_info(Some(Duration::from_millis(250)));
    let status = Status::with_error_details(Code::ResourceExhausted, "busy", details);
    pb::Status::decode(status.details()).unwrap_or_default()
}

/// Hints in their plain form: a poll, entries of two conversations, and ephemerals.
pub(crate) fn hints() -> Vec<Vec<u8>> {
    // The fields of `bus/wire.rs`, each with its tag and length.
    let length = |bytes: &[u8]| u8::try_from(bytes.len()).expect("a short field");
    let field = |tag: u8, bytes: &[u8]| [&[tag << 3 | 2, length(bytes)][..], bytes].concat();
    let entries = |id: &str| {
        let run = [field(1, id.as_bytes()), vec![2 << 3, 7], field(3, b"entry"), field(3, b"the next")].concat();
        field(3, &run)
    };
    let typing = [field(1, b"general"), field(2, b"ada"), vec![4 << 3, 1]].concat();
    let marker = [field(1, b"general"), field(2, b"ada"), vec![3 << 3, 7]].concat();
    let poll = vec![2 << 3, 1];
    let all = [poll.clone(), entries("general"), entries("random"), field(4, &typing), field(4, &marker)].concat();
    vec![poll, entries("general"), field(4, &typing), all]
}

pub(crate) fn texts() -> Vec<Vec<u8>> {
    let texts = [
        "general",
        "~dabc",
        "Ada.L_1-2",
        "title,description",
        "*",
        "250m",
        "99999999H",
        "https://chat.example",
        "HTTP://[::1]:8080/",
        "localhost:50051",
        "chat.example.",
        "127.0.0.1",
        "application/grpc+proto",
        "application/grpc-web-text",
        "AAAAAAAAAAAAAAAAAAAAAA",
        "\u{1F600} smile",
    ];
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
}

pub(crate) fn database_urls() -> Vec<Vec<u8>> {
    let urls = [
        "postgres://user:secret-1@host:5432/database?sslmode=require",
        "postgresql:///database?host=/run/postgresql&user=me",
        "postgres://user:secret-2@[::1]:5433/d?application_name=x&statement-cache-capacity=7&options[c.d]=2",
        "postgres://user@a,b/d?target_session_attrs=read-write",
        "postgres://user:secret-3@h/d?sslrootcert=system&ssl-mode=verify-full",
        "postgres://u:secret-4#x@h/d?password=secret-5&port=7&hostaddr=10.0.0.1",
    ];
    urls.map(|url| url.as_bytes().to_vec()).to_vec()
}
