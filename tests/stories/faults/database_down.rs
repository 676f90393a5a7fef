//! PostgreSQL itself stops under load, in three ways, and restarts: every acknowledged message exists exactly once, and
//! streams resume by themselves.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use parlance::message::v1::GetMessageRequest;
use parlance_checker::Recorder;
use parlance_client::{Client, Draft};
use parlance_standalone::cluster::{Cluster, Options, StopMode};
use tokio::{sync::watch, task::JoinHandle, time::timeout};
use tonic::Code;

use super::load::{Load, Subscriber, assert_kept, check_history, read_logs};
use crate::support::{
    PATIENCE, Reader, RunningMessageService, RunningUserService, channel_to, code_and_reason, eventually, group,
    message_service_config, retry_delay, send, send_as, user_service_config,
};

struct Deployment {
    cluster: Cluster,
    message_service: RunningMessageService,
    user_service: RunningUserService,
}

impl Deployment {
    /// Starts a PostgreSQL for this story alone, with both services on it and a group `g` of Ann and Ben.
    async fn new() -> Self {
        let cluster = Cluster::start(Options::temporary().max_connections(50)).await.unwrap();
        cluster.create_database("parlance").await.unwrap();
        let url = cluster.url("parlance");
        let timeout = ["--database-timeout", "2s"];
        let user_service = RunningUserService::launch(user_service_config(&url, &timeout)).await;
        user_service.wait_until_serving().await;
        let address = user_service.address().to_string();
        let message_service = RunningMessageService::start(message_service_config(&url, &address, &timeout)).await;
        for name in ["ann", "ben"] {
            user_service.create(name).await;
        }
        for id in ["g", "h"] {
            message_service.conversations().create_conversation(group(id, "ann", &["ben"])).await.unwrap();
        }
        Self { cluster, message_service, user_service }
    }

    async fn stop(&mut self, how: How) {
        match how {
            How::Fast => self.cluster.stop(StopMode::Fast).await,
            How::Immediate => self.cluster.stop(StopMode::Immediate).await,
            How::Kill => self.cluster.kill().await,
        }
    }
}

#[derive(Clone, Copy)]
enum How {
    Fast,
    Immediate,
    Kill,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarting_postgres_three_times_under_load_loses_nothing() {
    let mut deployment = Deployment::new().await;
    let mut readers = Vec::new();
    for id in ["g", "h"] {
        readers.push(Reader::open(&deployment.message_service.messages(), id, "ben", Some(0)).await.unwrap());
    }
    let (_moving, at) = watch::channel(channel_to(deployment.message_service.address()));
    let recorder = Recorder::default();
    let subscribers = ["g", "h"].map(|id| (id, Subscriber::begin(&recorder, "ben", id, &at)));
    let load = Load::begin(&recorder, "load", 16, &["g", "h"], &at);
    for how in [How::Fast, How::Immediate, How::Kill] {
        load.wait_for(100).await;
        deployment.stop(how).await;
        // Once is enough: it takes as long as a write may wait.
        if matches!(how, How::Fast) {
            check_errors_without_database(&deployment).await;
        }
        deployment.cluster.start_again().await.unwrap();
        load.wait_for(100).await;
    }
    load.end().await;
    let logs = read_logs(&deployment.message_service.messages(), &["g", "h"]).await;
    assert_kept(&check_history(&recorder, subscribers.into(), &logs, PATIENCE).await);
    // The streams that stayed open have delivered everything, without a new call.
    for (reader, log) in readers.iter_mut().zip(logs.values()) {
        assert_eq!(&reader.up_to(log.len() as i64).await, log);
    }
    drop(deployment.user_service);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_of_two_replicas_resume_after_a_database_restart() {
    let mut deployment = Deployment::new().await;
    let (url, address) = (deployment.cluster.url("parlance"), deployment.user_service.address().to_string());
    let config = message_service_config(&url, &address, &["--database-timeout", "2s"]);
    let replica = RunningMessageService::start(config).await;
    let clients = [deployment.message_service.messages(), replica.messages()];
    let mut readers = Vec::new();
    for client in &clients {
        readers.push(Reader::open(client, "g", "ben", Some(2)).await.unwrap());
    }
    let mut head = 2;
    for (round, how) in [How::Fast, How::Kill].into_iter().enumerate() {
        for (n, client) in clients.iter().enumerate() {
            let id = format!("{round} {n}");
            let sent =
                eventually(PATIENCE, || async { client.clone().send_message(send_as(&id, "g", "ann", "x")).await });
            head = sent.await.into_inner().message.unwrap().sequence;
        }
        for reader in &mut readers {
            reader.up_to(head).await;
        }
        deployment.stop(how).await;
        deployment.cluster.start_again().await.unwrap();
    }
    // Each replica delivers messages written at the other.
    for (n, client) in clients.iter().enumerate() {
        let id = format!("last {n}");
        eventually(PATIENCE, || async { client.clone().send_message(send_as(&id, "g", "ann", "x")).await }).await;
        head += 1;
        for reader in &mut readers {
            assert_eq!(reader.event().await.sequence, head);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipelining_session_keeps_its_order_through_an_outage_longer_than_a_write_waits() {
    const BEFORE: usize = 5;
    const DURING: usize = 60;
    let mut deployment = Deployment::new().await;
    let client = Client::new([format!("http://{}", deployment.message_service.address())]).unwrap();
    let (ann, _updates) = client.session("ann").send_only().open();
    let mut sending = Vec::new();
    for n in 0..BEFORE + DURING {
        if n == BEFORE {
            join_all(sending.iter_mut().map(|send: &mut JoinHandle<_>| send)).await;
            sending.clear();
            deployment.stop(How::Fast).await;
        }
        // Polled once in order: the first poll queues the send.
        let mut send = Box::pin(ann.send(Draft::text("g", format!("{n:03}"))));
        let _ = futures_util::poll!(&mut send);
        sending.push(tokio::spawn(send));
        if n >= BEFORE {
            // The first ones are given up while the last are sent.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    deployment.cluster.start_again().await.unwrap();
    let sent = timeout(PATIENCE, join_all(sending)).await.expect("all are stored");
    let sequences: Vec<i64> = sent.into_iter().map(|sent| sent.unwrap().unwrap().sequence).collect();
    assert!(sequences.is_sorted(), "{sequences:?}");
}

/// Checks that callers without a database get an error in time, never a success.
async fn check_errors_without_database(deployment: &Deployment) {
    let messages = deployment.message_service.messages();
    let get = GetMessageRequest { conversation_id: "g".to_owned(), sequence: 3, actor_id: "ann".to_owned() };
    let since = Instant::now();
    let (mut one, mut other, mut third) = (messages.clone(), messages.clone(), messages);
    let (with, without, read) = tokio::join!(
        one.send_message(send_as("away", "g", "ann", "x")),
        other.send_message(send("g", "ann", "x")),
        third.get_message(get),
    );
    assert!(since.elapsed() < Duration::from_secs(15), "answered after {:?}", since.elapsed());
    // A recently changed user is looked up in user-service, which is without its database, too.
    let away = ["DATABASE_UNAVAILABLE", "USER_SERVICE_UNAVAILABLE"];
    for status in [with.unwrap_err(), read.unwrap_err()] {
        let received = code_and_reason(&status);
        assert!(received.0 == Code::Unavailable && away.contains(&&*received.1), "{received:?}");
        assert!(retry_delay(&status).is_some());
    }
    let received = code_and_reason(&without.unwrap_err());
    assert!(
        (received.0 == Code::Unavailable && away.contains(&&*received.1))
            || received == (Code::Unknown, "OUTCOME_UNKNOWN".to_owned()),
        "{received:?}"
    );
}
