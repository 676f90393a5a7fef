use parlance::{message::v1::SendMessageRequest, user::v1::CreateUserRequest};
use tonic::Request;

use super::{Collector, Told, collector::Collected};
use crate::support::{PATIENCE, eventually, group, send};

const TRACE_ID: [u8; 16] =
    [0x0a, 0xf7, 0x65, 0x19, 0x16, 0xcd, 0x43, 0xdd, 0x84, 0x48, 0xeb, 0x21, 0x1c, 0x80, 0x31, 0x9c];
const CLIENTS_SPAN: [u8; 8] = [0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31];
const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// As a client sends it that is a part of a trace.
fn traced<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("traceparent", TRACEPARENT.parse().unwrap());
    request
}

async fn begin(told: &Told) {
    for name in ["ann", "ben"] {
        let user = CreateUserRequest { user_id: name.to_owned(), username: name.to_owned(), ..Default::default() };
        told.user_service.users().create_user(user).await.unwrap();
    }
    told.message_service.conversations().create_conversation(group("g", "ann", &["ben"])).await.unwrap();
}

fn send_from_ben() -> SendMessageRequest {
    send("g", "ben", "hello")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_trace_goes_from_the_client_through_both_services_to_the_statements() {
    let collector = Collector::start().await;
    let told = Told::new(&["--otlp-endpoint", &collector.url()]).await;
    begin(&told).await;
    // Nobody has asked for a user who is new.
    let cat = CreateUserRequest { user_id: "cat".to_owned(), username: "cat".to_owned(), ..Default::default() };
    told.user_service.users().create_user(cat).await.unwrap();
    told.message_service.messages().send_message(traced(send("g", "cat", "hello"))).await.unwrap_err();
    told.message_service.messages().send_message(traced(send_from_ben())).await.unwrap();

    let spans = eventually(PATIENCE, || async {
        let spans = collector.trace(&TRACE_ID);
        let names: Vec<&str> = spans.iter().map(|collected| &*collected.span.name).collect();
        // Two sends; one question, its answer and its statement; one batch of writes for each send that was let through.
        let all = ["append_v1", "find users", "parlance.user.v1.UserService/GetUser"];
        if all.iter().all(|name| names.contains(name)) && roots(&spans).len() == 2 {
            Ok(spans)
        } else {
            Err(format!("{names:?}"))
        }
    })
    .await;

    for root in roots(&spans) {
        assert_eq!(root.span.name, "parlance.message.v1.MessageService/SendMessage");
        assert!(root.process.contains("message-service"), "{root:?}");
    }
    let path = |name: &str, process: &str| -> Vec<String> {
        let last = spans.iter().find(|one| one.span.name == name && one.process.contains(process)).unwrap();
        let mut path = vec![last.span.name.clone()];
        let mut at = last;
        while let Some(parent) = spans.iter().find(|one| one.span.span_id == at.span.parent_span_id) {
            path.push(parent.span.name.clone());
            at = parent;
        }
        assert_eq!(at.span.parent_span_id, CLIENTS_SPAN, "{path:?}");
        path
    };
    let send = "parlance.message.v1.MessageService/SendMessage";
    let get_user = "parlance.user.v1.UserService/GetUser";
    assert_eq!(path("append_v1", "message-service"), ["append_v1", send]);
    assert_eq!(path("find users", "user-service"), ["find users", get_user, get_user, send]);
}

fn roots(spans: &[Collected]) -> Vec<&Collected> {
    spans.iter().filter(|one| one.span.parent_span_id == CLIENTS_SPAN).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_has_the_ids_of_the_trace_in_both_services() {
    let collector = Collector::start().await;
    let told = Told::new(&["--otlp-endpoint", &collector.url()]).await;
    begin(&told).await;
    // Nobody is called so: both services say that they were asked.
    told.message_service.messages().send_message(traced(send("g", "eve", "hello"))).await.unwrap_err();
    for process in [&told.message_service, &told.user_service] {
        eventually(PATIENCE, || async {
            let log = process.log();
            let is_line =
                |line: &&str| line.contains("call failed") && line.contains("0af7651916cd43dd8448eb211c80319c");
            log.lines().find(is_line).map(drop).ok_or_else(|| log.clone())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_away_costs_traces_and_nothing_else() {
    let told = Told::new(&["--otlp-endpoint", "http://127.0.0.1:1"]).await;
    begin(&told).await;
    told.message_service.messages().send_message(traced(send_from_ben())).await.unwrap();
    let mut message_service = told.message_service;
    message_service.terminate();
    assert!(message_service.ended().await.success(), "{}", message_service.log());
}
