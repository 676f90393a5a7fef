//! PostgreSQL itself stops and restarts: callers get true errors in time, and streams resume by themselves.

use std::{
    fs,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use parlance::message::v1::GetMessageRequest;
use parlance_client::{Client, Draft};
use parlance_standalone::cluster::{Cluster, Options, StopMode};
use sqlx::{Connection, PgConnection};
use tokio::{task::JoinHandle, time::timeout};
use tonic::Code;

use crate::support::{
    PATIENCE, Reader, RunningMessageService, RunningUserService, code_and_reason, eventually, group,
    message_service_config, retry_delay, send, send_as, user_service_config,
};

/// The server's.
pub(super) const MAX_CONNECTIONS: usize = 50;

pub(super) struct Deployment {
    pub(super) cluster: Cluster,
    pub(super) message_service: RunningMessageService,
    user_service: RunningUserService,
}

impl Deployment {
    /// Starts a PostgreSQL for this story alone, with both services on it and a group `g` of Ann and Ben.
    async fn new() -> Self {
        Self::with(&["g", "h"]).await
    }

    /// The same with these groups.
    pub(super) async fn with(groups: &[&str]) -> Self {
        let cluster = Cluster::start(Options::temporary().max_connections(MAX_CONNECTIONS as u32)).await.unwrap();
        cluster.create_database("parlance").await.unwrap();
        let url = cluster.url("parlance");
        let (user_service, message_service) = start_services(&url, groups).await;
        Self { cluster, message_service, user_service }
    }

    /// Pauses PostgreSQL with all its processes.
    pub(super) fn pause(&self) -> Paused {
        Paused::new(Pid::from_raw(self.cluster.pid().expect("it runs") as i32))
    }

    /// Kills the server process of one of message-service's sessions.
    pub(super) async fn kill_one_server_process(&self) {
        let url = self.cluster.url("parlance");
        let process_id = eventually(PATIENCE, || async {
            let mut outside = PgConnection::connect(&url).await.map_err(|error| error.to_string())?;
            let one =
                "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'parlance%' ORDER BY random() LIMIT 1";
            let found: Option<(i32,)> =
                sqlx::query_as(one).fetch_optional(&mut outside).await.map_err(|error| error.to_string())?;
            found.ok_or_else(|| "no service has a session".to_owned())
        })
        .await
        .0;
        kill(Pid::from_raw(process_id), Signal::SIGKILL).unwrap();
    }

    pub(super) async fn stop(&mut self, how: How) {
        match how {
            How::Stop(mode) => self.cluster.stop(mode).await,
            How::Kill => self.cluster.kill().await,
        }
    }
}

/// Starts both services on a database, with these groups of Ann and Ben.
pub(super) async fn start_services(url: &str, groups: &[&str]) -> (RunningUserService, RunningMessageService) {
    let timeout = ["--database-timeout", "2s"];
    let user_service = RunningUserService::launch(user_service_config(url, &timeout)).await;
    user_service.wait_until_serving().await;
    let address = user_service.address().to_string();
    let message_service = RunningMessageService::start(message_service_config(url, &address, &timeout)).await;
    for name in ["ann", "ben"] {
        user_service.create(name).await;
    }
    for id in groups {
        message_service.conversations().create_conversation(group(id, "ann", &["ben"])).await.unwrap();
    }
    (user_service, message_service)
}

/// The processes of a PostgreSQL server, paused until this is dropped.
pub(super) struct Paused(Vec<Pid>);

impl Paused {
    /// Pauses a postmaster and its children.
    fn new(postmaster: Pid) -> Self {
        let _ = kill(postmaster, Signal::SIGSTOP);
        // It starts no more of them.
        let children = fs::read_to_string(format!("/proc/{postmaster}/task/{postmaster}/children")).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|pid| pid.parse().ok().map(Pid::from_raw));
        let paused: Vec<Pid> = children.chain([postmaster]).collect();
        for pid in &paused {
            let _ = kill(*pid, Signal::SIGSTOP);
        }
        Self(paused)
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        for pid in &self.0 {
            let _ = kill(*pid, Signal::SIGCONT);
        }
    }
}

#[derive(Clone, Copy)]
pub(super) enum How {
    Stop(StopMode),
    Kill,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_is_reported_in_time_and_open_streams_go_on() {
    let mut deployment = Deployment::new().await;
    let mut reader = Reader::open(&deployment.message_service.messages(), "g", "ben", Some(0)).await.unwrap();
    deployment.stop(How::Stop(StopMode::Fast)).await;
    check_errors_without_database(&deployment).await;
    deployment.cluster.start_again().await.unwrap();
    let messages = deployment.message_service.messages();
    let sent =
        eventually(PATIENCE, || async { messages.clone().send_message(send_as("r", "g", "ann", "back")).await }).await;
    let head = sent.into_inner().message.unwrap().sequence;
    // Without a new call.
    assert_eq!(reader.up_to(head).await.len() as i64, head);
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
    for (round, how) in [How::Stop(StopMode::Fast), How::Kill].into_iter().enumerate() {
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
            deployment.stop(How::Stop(StopMode::Fast)).await;
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
