use std::{collections::BTreeSet, path::Path};

use parlance::{
    message::v1::{StreamMessagesRequest, SubscribeRequest},
    user::v1::{CreateUserRequest, DeactivateUserRequest, GetUserRequest},
};
use tonic::Code;

use super::{
    Scrape, Services,
    scrape::{family, get, get_from},
};
use crate::support::{PATIENCE, eventually, group, send, send_as};

/// Dashboards and alerts of operators.
const FILES: [&str; 2] = ["deploy/grafana/dashboard.json", "deploy/prometheus/alerts.yml"];

/// Prefixes of our metrics, and of those that every process has.
const PREFIXES: [&str; 3] = ["parlance_", "grpc_server_", "process_"];

/// Holds a small conversation, so that everything has happened at least once.
async fn talk(services: &Services) {
    let (mut users, mut messages) = (services.user_service.users(), services.message_service.messages());
    for name in ["ann", "ben"] {
        let user = CreateUserRequest { user_id: name.to_owned(), username: name.to_owned(), ..Default::default() };
        users.create_user(user).await.unwrap();
    }
    services.message_service.conversations().create_conversation(group("g", "ann", &["ben"])).await.unwrap();
    let stream = StreamMessagesRequest {
        conversation_id: "g".to_owned(),
        actor_id: "ben".to_owned(),
        after_sequence: Some(0),
        ..Default::default()
    };
    let mut one = messages.stream_messages(stream).await.unwrap().into_inner();
    let inbox = SubscribeRequest { actor_id: "ben".to_owned(), ..Default::default() };
    let mut all = messages.subscribe(inbox).await.unwrap().into_inner();
    for text in ["first", "second"] {
        messages.send_message(send_as(text, "g", "ann", text)).await.unwrap();
    }
    messages.send_message(send_as("first", "g", "ann", "first")).await.unwrap();
    let refused = messages.send_message(send("g", "eve", "let me in")).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    let seen = async |stream: &mut tonic::Streaming<_>| while stream.message().await.unwrap().is_some() {};
    // Both are open during the scrape, and disconnect after it.
    let scrape = tokio::select! {
        () = async { tokio::join!(drain(&mut one), seen(&mut all)).0 } => panic!("a stream has ended"),
        page = eventually(PATIENCE, || async {
            let scrape = Scrape::of(services.message_service.admin_address()).await;
            let open = scrape.sum("parlance_live_subscriptions", &[]);
            let entries = scrape.sum("parlance_live_entries_total", &[]);
            // Ben's own stream has all four entries; the number from the inbox depends on its read mark and is
            // irrelevant here.
            if open == 2 && entries >= 6 { Ok(scrape) } else { Err(format!("{open} open, {entries} entries")) }
        }) => page,
    };
    assert!(scrape.sum("parlance_live_entries_total", &["source=\"ring\""]) > 0, "{}", scrape.text);
}

async fn drain(stream: &mut tonic::Streaming<parlance::message::v1::StreamMessagesResponse>) {
    while stream.message().await.unwrap().is_some() {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_count_calls_writes_and_streams() {
    let services = Services::new(&[]).await;
    talk(&services).await;
    let scrape = eventually(PATIENCE, || async {
        let scrape = Scrape::of(services.message_service.admin_address()).await;
        // Streams whose clients have disconnected are cancelled calls.
        let ended = scrape.sum("grpc_server_handled_total", &["grpc_code=\"CANCELLED\""]);
        let open = scrape.sum("parlance_live_subscriptions", &[]);
        if ended >= 2 && open == 0 { Ok(scrape) } else { Err(format!("{ended} cancelled, {open} open")) }
    })
    .await;

    let sends =
        |code: &str| scrape.sum("grpc_server_handled_total", &["SendMessage", &format!("grpc_code=\"{code}\"")]);
    assert_eq!((sends("OK"), sends("NOT_FOUND")), (3, 1));
    assert_eq!(scrape.sum("grpc_server_started_total", &["SendMessage"]), 4);
    assert_eq!(scrape.sum("grpc_server_handling_seconds_count", &["SendMessage"]), 4);
    let entries = |outcome: &str| scrape.sum("parlance_writer_entries_total", &[outcome]);
    assert_eq!((entries("stored"), entries("repeated")), (2, 1));
    assert_eq!(
        scrape.sum("parlance_writer_commit_seconds_count", &[]),
        scrape.sum("parlance_writer_batch_items_count", &[])
    );
    assert_eq!(scrape.sum("parlance_writer_batch_items_sum", &[]), 3);
    assert!(scrape.sum("parlance_directory_answers_total", &["asked"]) >= 2);
    assert!(scrape.sum("parlance_directory_answers_total", &["fresh"]) >= 1);
    assert_eq!(scrape.sum("parlance_serving", &["MessageService"]), 1);
    assert!(scrape.sum("parlance_outbox_polls_total", &["reread"]) >= 1);
    assert!(scrape.sum("process_resident_memory_bytes", &[]) > 1_000_000);
    assert_eq!(scrape.sum("parlance_build_info", &["process=\"message-service\""]), 1);

    let users = Scrape::of(services.user_service.admin_address()).await;
    assert!(users.sum("parlance_lookup_batch_users_count", &[]) >= 1);
    assert!(users.sum("grpc_server_handled_total", &["grpc_method=\"GetUser\""]) >= 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invented_names_create_no_series() {
    let services = Services::new(&[]).await;
    let mut users = services.user_service.users();
    for id in ["made-up-1", "made-up-2"] {
        let request = GetUserRequest { user_id: id.to_owned(), ..Default::default() };
        users.get_user(request).await.unwrap_err();
        let path = format!("GET /{id}");
        assert!(get(services.user_service.admin_address(), &path).await.starts_with("HTTP/1.1 404 "));
    }
    let mut grpc = tonic::client::Grpc::new(
        tonic::transport::Channel::from_shared(format!("http://{}", services.user_service.address()))
            .unwrap()
            .connect()
            .await
            .unwrap(),
    );
    grpc.ready().await.unwrap();
    let unknown = grpc
        .unary(
            tonic::Request::new(GetUserRequest::default()),
            "/made.up.Service/Method".parse().unwrap(),
            tonic_prost::ProstCodec::<GetUserRequest, GetUserRequest>::default(),
        )
        .await
        .unwrap_err();
    assert_eq!(unknown.code(), Code::Unimplemented);
    let scrape = Scrape::of(services.user_service.admin_address()).await;
    assert!(!scrape.text.contains("made"), "{}", scrape.text);
    assert_eq!(scrape.sum("grpc_server_handled_total", &["unknown", "UNIMPLEMENTED"]), 1);
    assert!(get(services.user_service.admin_address(), "POST /metrics").await.starts_with("HTTP/1.1 405 "));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_panel_and_alert_uses_existing_metrics() {
    let services = Services::new(&[]).await;
    talk(&services).await;
    let request = DeactivateUserRequest { user_id: "ben".to_owned() };
    services.user_service.users().deactivate_user(request).await.unwrap();
    let mut there = BTreeSet::new();
    for process in [&services.user_service, &services.message_service] {
        there.extend(Scrape::of(process.admin_address()).await.names());
    }
    for file in FILES {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let named: BTreeSet<&str> =
            words.filter(|word| PREFIXES.iter().any(|prefix| word.starts_with(prefix))).map(family).collect();
        assert!(named.len() > 10, "{file} names {named:?}");
        let missing: Vec<_> = named.iter().filter(|name| !there.contains(**name)).collect();
        assert!(missing.is_empty(), "{file} names {missing:?}; existing are {there:#?}");
    }
    // Every metric has a help text.
    let scrape = Scrape::of(services.message_service.admin_address()).await;
    let unexplained: Vec<_> =
        scrape.names().into_iter().filter(|name| !scrape.text.contains(&format!("# HELP {name} "))).collect();
    assert!(unexplained.is_empty(), "{unexplained:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_taken_admin_port_is_reported_in_one_sentence() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = std::process::Command::new(crate::support::binary("user-service"))
        .args(["--database-url", "postgres://none@127.0.0.1:1/none", "--admin-listen", &address])
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        !output.status.success() && stderr.contains(&format!("cannot listen on {address} for metrics")),
        "{stderr}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_on_loopback_are_not_read_under_a_foreign_name() {
    let services = Services::new(&["--allow-host", "chat.example"]).await;
    let address = services.user_service.admin_address();
    for (host, status) in [
        ("localhost", "200"),
        (&*address.to_string(), "200"),
        ("chat.example", "200"),
        ("evil.example", "403"),
        ("127.0.0.1.evil.example", "403"),
    ] {
        let answer = get_from(host, address, "GET /metrics").await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{host}: {answer}");
    }
}
