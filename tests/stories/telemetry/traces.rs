use parlance::{message::v1::SendMessageRequest, user::v1::CreateUserRequest};
use tonic::Request;

use super::{Collector, Services, collector::Collected};
use crate::support::{PATIENCE, eventually, group, send};

const TRACE_ID: [u8; 16] =
    [0x0a, 0xf7, 0x65, 0x19, 0x16, 0xcd, 0x43, 0xdd, 0x84, 0x48, 0xeb, 0x21, 0x1c, 0x80, 0x31, 0x9c];
const CLIENTS_SPAN: [u8; 8] = [0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31];
const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Makes the request part of a client's trace.
fn traced<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("traceparent", TRACEPARENT.parse().unwrap());
    request
}

async fn begin(services: &Services) {
    for name in ["ann", "ben"] {
        let user = CreateUserRequest { user_id: name.to_owned(), username: name.to_owned(), ..Default::default() };
        services.user_service.users().create_user(user).await.unwrap();
    }
    services.message_service.conversations().create_conversation(group("g", "ann", &["ben"])).await.unwrap();
}

fn send_from_ben() -> SendMessageRequest {
    send("g", "ben", "hello")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_trace_spans_the_client_both_services_and_the_sql_statements() {
    let collector = Collector::start().await;
    let services = Services::new(&["--otlp-endpoint", &collector.url()]).await;
    begin(&services).await;
    // A new user is in no cache.
    let cat = CreateUserRequest { user_id: "cat".to_owned(), username: "cat".to_owned(), ..Default::default() };
    services.user_service.users().create_user(cat).await.unwrap();
    services.message_service.messages().send_message(traced(send("g", "cat", "hello"))).await.unwrap_err();
    services.message_service.messages().send_message(traced(send_from_ben())).await.unwrap();

    let spans = eventually(PATIENCE, || async {
        let spans = collector.trace(&TRACE_ID);
        let names: Vec<&str> = spans.iter().map(|collected| &*collected.span.name).collect();
        // Two sends; one lookup with its response and its statement; one batch of writes for each accepted send.
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
async fn logs_of_both_services_carry_the_trace_id() {
    let collector = Collector::start().await;
    let services = Services::new(&["--otlp-endpoint", &collector.url()]).await;
    begin(&services).await;
    // An unknown user: both services log the failed call.
    services.message_service.messages().send_message(traced(send("g", "eve", "hello"))).await.unwrap_err();
    for process in [&services.message_service, &services.user_service] {
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
async fn an_unreachable_collector_loses_traces_only() {
    let services = Services::new(&["--otlp-endpoint", "http://127.0.0.1:1"]).await;
    begin(&services).await;
    services.message_service.messages().send_message(traced(send_from_ben())).await.unwrap();
    let mut message_service = services.message_service;
    message_service.terminate();
    assert!(message_service.ended().await.success(), "{}", message_service.log());
}
