//! From start to stop: health, reflection, age, drain.

use std::{
    convert::Infallible,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use futures_util::stream;
use service_kit::{
    lifecycle::{Grace, Lifecycle},
    server::{
        Settings,
        health::Health,
        readiness::{self, Probing},
    },
};
use tonic::{Code, Request, Status, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_reflection::pb::{v1, v1alpha};
use tonic_types::StatusExt;

use crate::{
    raw::{GOAWAY, Peer},
    support::{PATIENCE, eventually, flow, reason, settings, start, unary, within},
};

const NAMES: [&str; 5] = ["", "subject.v1.Subject", "readiness", "startup", "liveness"];

pub(crate) async fn check(channel: &Channel, name: &str) -> Result<ServingStatus, Status> {
    let request = HealthCheckRequest { service: name.to_owned() };
    HealthClient::new(channel.clone()).check(request).await.map(|answer| answer.into_inner().status())
}

/// Returns the names that are up.
async fn up(channel: &Channel) -> Vec<&'static str> {
    let mut up = Vec::new();
    for name in NAMES {
        if check(channel, name).await.unwrap() == ServingStatus::Serving {
            up.push(name);
        }
    }
    up
}

#[tokio::test]
async fn health_follows_the_life_of_the_process() {
    let server = start(settings()).await;
    let channel = server.channel().await;
    assert_eq!(up(&channel).await, ["liveness"]);
    server.health.set_ready(true);
    assert_eq!(up(&channel).await, ["liveness"]);
    server.health.set_started();
    assert_eq!(up(&channel).await, NAMES);
    server.health.set_ready(false);
    assert_eq!(up(&channel).await, ["startup", "liveness"]);
    server.health.set_ready(true);
    server.health.set_draining();
    server.health.set_ready(true);
    assert_eq!(up(&channel).await, ["startup", "liveness"]);

    let unknown = check(&channel, "no.such.Service").await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    reason(&unknown);
}

#[tokio::test]
async fn watching_health_shows_changes_and_ends_with_the_drain() {
    let server = start(settings()).await;
    server.health.set_started();
    let mut client = HealthClient::new(server.channel().await);
    let watch = |name: &str| Request::new(HealthCheckRequest { service: name.to_owned() });
    let mut service = client.watch(watch("subject.v1.Subject")).await.unwrap().into_inner();
    let mut unknown = client.watch(watch("no.such.Service")).await.unwrap().into_inner();
    assert_eq!(within(unknown.message()).await.unwrap().unwrap().status(), ServingStatus::ServiceUnknown);
    assert_eq!(within(service.message()).await.unwrap().unwrap().status(), ServingStatus::NotServing);
    server.health.set_ready(true);
    assert_eq!(within(service.message()).await.unwrap().unwrap().status(), ServingStatus::Serving);

    let stopped = server.stop(Grace { accept: Duration::from_millis(50), drain: PATIENCE, ..Grace::default() });
    assert_eq!(within(service.message()).await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert!(within(service.message()).await.unwrap().is_none());
    assert!(within(unknown.message()).await.unwrap().is_none());
    within(stopped).await.unwrap().unwrap();
}

#[tokio::test]
async fn both_versions_of_reflection_list_all_services_and_return_imports() {
    let server = start(settings()).await;
    let channel = server.channel().await;
    let wanted = [
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        "subject.v1.Subject",
    ];

    macro_rules! ask {
        ($version:ident, $question:expr) => {{
            use $version::server_reflection_request::MessageRequest;
            use $version::server_reflection_response::MessageResponse;
            let question = $version::ServerReflectionRequest { host: String::new(), message_request: Some($question) };
            let mut client = $version::server_reflection_client::ServerReflectionClient::new(channel.clone());
            let answers = client.server_reflection_info(stream::iter([question])).await.unwrap();
            match within(answers.into_inner().message()).await.unwrap().unwrap().message_response.unwrap() {
                MessageResponse::ListServicesResponse(list) => {
                    let mut names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
                    names.sort();
                    names
                }
                MessageResponse::FileDescriptorResponse(files) => {
                    vec![files.file_descriptor_proto.len().to_string()]
                }
                other => panic!("{other:?}"),
            }
        }};
    }

    let import = "google/protobuf/wrappers.proto";
    assert_eq!(ask!(v1, MessageRequest::ListServices(String::new())), wanted);
    assert_eq!(ask!(v1alpha, MessageRequest::ListServices(String::new())), wanted);
    assert_eq!(ask!(v1, MessageRequest::FileByFilename(import.to_owned())), ["1"]);
    assert_eq!(ask!(v1alpha, MessageRequest::FileByFilename(import.to_owned())), ["1"]);
    assert_eq!(ask!(v1, MessageRequest::FileContainingSymbol("subject.v1.Subject".to_owned())), ["1"]);
}

#[tokio::test]
async fn health_and_reflection_take_names_only_and_repeat_little() {
    let server = start(settings()).await;
    let channel = server.channel().await;
    let refusal = check(&channel, &"x".repeat(20_000)).await.unwrap_err();
    assert_eq!((refusal.code(), reason(&refusal)), (Code::ResourceExhausted, "REQUEST_TOO_LARGE".to_owned()));
    assert_eq!(refusal.get_details_error_info().unwrap().metadata["limit_bytes"], "16384");

    let look_up = async |length: usize| {
        let question = v1::server_reflection_request::MessageRequest::FileContainingSymbol("x".repeat(length));
        let question = v1::ServerReflectionRequest { host: String::new(), message_request: Some(question) };
        let mut client = v1::server_reflection_client::ServerReflectionClient::new(channel.clone());
        let answers = client.server_reflection_info(stream::iter([question])).await?;
        within(answers.into_inner().message()).await
    };
    let unknown = look_up(10_000).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    assert!(unknown.message().len() <= 512 && unknown.message().starts_with("symbol 'xxx"), "{unknown:?}");
    // tonic-reflection ends the stream without a word when it cannot read a request.
    assert!(look_up(20_000).await.unwrap().is_none());
}

#[tokio::test]
async fn a_drain_with_open_streams_and_silent_peers_ends_within_its_bound() {
    let server = start(Settings { handshake_timeout: PATIENCE * 10, ..settings() }).await;
    let channel = server.channel().await;
    let _silent = server.tcp().await;
    let mut greeted = Peer::greet(server.tcp().await, &[]).await;
    let mut stream = flow(&channel, Request::new("quiet".to_owned())).await.unwrap();
    assert_eq!(within(stream.message()).await.unwrap().as_deref(), Some("first"));

    let started = Instant::now();
    // Draining is not closing: new connections and calls are still taken.
    server.lifecycle.draining().cancel();
    server.assert_lives().await;
    assert_eq!(unary(&channel, "hello").await.unwrap().into_inner(), "you said hello");
    let grace = Grace { accept: Duration::ZERO, drain: Duration::from_millis(300), kill: Duration::from_secs(10) };
    let stopped = server.stop(grace);

    assert!(greeted.next_of(GOAWAY).await.is_some(), "closed gracefully");
    within(stopped).await.unwrap().unwrap();
    eprintln!("stopped after {:?}", started.elapsed());
    assert!(started.elapsed() < PATIENCE);
    // Streams that were still open were dropped.
    assert!(within(stream.message()).await.is_err());
    assert!(tokio::net::TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn a_drain_waits_for_running_calls_and_no_longer() {
    let server = start(settings()).await;
    let channel = server.channel().await;
    let mut stream = flow(&channel, Request::new("tick".to_owned())).await.unwrap();
    let grace = Grace { accept: Duration::ZERO, drain: PATIENCE * 10, kill: Duration::from_secs(1) };
    let stopped = server.stop(grace);
    eventually(|| server.lifecycle.closing().is_cancelled(), |closing| *closing).await;
    for _ in 0..10 {
        within(stream.message()).await.unwrap().unwrap();
    }
    assert!(!stopped.is_finished());
    drop((stream, channel));
    within(stopped).await.unwrap().unwrap();
}

#[tokio::test]
async fn an_old_connection_is_closed_gracefully_and_dropped_after_its_grace() {
    let server = start(Settings {
        handshake_timeout: Duration::from_millis(50),
        max_connection_age: Duration::from_millis(100),
        connection_age_grace: Duration::from_millis(100),
        ..settings()
    })
    .await;
    let channel = server.channel().await;
    let mut stream = flow(&channel, Request::new("quiet".to_owned())).await.unwrap();
    within(stream.message()).await.unwrap();
    let mut greeted = Peer::greet(server.tcp().await, &[]).await;
    assert!(greeted.next_of(GOAWAY).await.is_some());
    assert!(within(stream.message()).await.is_err());
    server.assert_lives().await;
}

#[tokio::test]
async fn a_task_that_ends_early_fails_or_panics_ends_the_process_with_its_name() {
    let grace = Grace { accept: Duration::ZERO, ..Grace::default() };
    for (name, wanted) in [("early", "ended early"), ("failing", "failed"), ("panicking", "panicked")] {
        let lifecycle = Lifecycle::new();
        lifecycle.spawn(name, async move {
            match name {
                "early" => Ok(()),
                "failing" => Err(io::Error::other("the disk is full")),
                _ => panic!("on purpose"),
            }
        });
        let fault = within(lifecycle.run(std::future::pending(), grace)).await.unwrap_err();
        assert_eq!(fault.to_string(), format!("task {name} {wanted}"));
    }
}

#[tokio::test]
async fn a_shutdown_waits_for_tasks_that_end_on_closing() {
    let lifecycle = Lifecycle::new();
    let flushed = Arc::new(AtomicBool::new(false));
    let (stages, done) = (lifecycle.clone(), flushed.clone());
    lifecycle.spawn("writer", async move {
        stages.closing().cancelled().await;
        tokio::task::yield_now().await;
        done.store(true, SeqCst);
    });
    let job = lifecycle.spawn_job("job", async { 7 });
    within(lifecycle.run(async {}, Grace { accept: Duration::ZERO, ..Grace::default() })).await.unwrap();
    assert!(flushed.load(SeqCst));
    assert_eq!(job.await.unwrap(), 7);
}

#[tokio::test(start_paused = true)]
async fn readiness_is_lost_only_after_a_while_and_regained_at_once() {
    let (health, lifecycle) = (Health::new([]), Lifecycle::new());
    health.set_started();
    let answers = Arc::new(AtomicBool::new(false));
    let probed = answers.clone();
    readiness::watch(&health, &lifecycle, Probing::default(), move || {
        let answers = probed.load(SeqCst);
        async move { if answers { Ok::<_, &str>(()) } else { Err("connection refused") } }
    });
    let after = |time| tokio::time::sleep(time);

    after(Duration::from_mins(1)).await;
    assert!(!health.is_ready(), "never ready before the first answer");
    answers.store(true, SeqCst);
    after(Duration::from_millis(1_100)).await;
    assert!(health.is_ready());
    answers.store(false, SeqCst);
    after(Duration::from_secs(11)).await;
    assert!(health.is_ready(), "a short failure keeps it ready");
    after(Duration::from_secs(4)).await;
    assert!(!health.is_ready());
    answers.store(true, SeqCst);
    after(Duration::from_millis(1_100)).await;
    assert!(health.is_ready());
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_hangs_counts_as_failed() {
    let (health, lifecycle) = (Health::new([]), Lifecycle::new());
    health.set_started();
    health.set_ready(true);
    let mut asked = 0;
    readiness::watch(&health, &lifecycle, Probing::default(), move || {
        asked += 1;
        let first = asked == 1;
        async move {
            if !first {
                std::future::pending::<()>().await;
            }
            Ok::<_, Infallible>(())
        }
    });
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(!health.is_ready());
}
