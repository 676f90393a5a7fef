//! The life of a pod as the kubelet sees it: preparing, starting, migrating, ready, the database away and back, ending; and a
//! process that is stuck.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use parlance::user::v1::{CreateUserRequest, user_service_client::UserServiceClient};
use sqlx::{Connection, PgConnection};
use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus::{self, NotServing, Serving};

use super::{
    kubelet::{Kubelet, Verdict, ask},
    manifest::Manifest,
};
use crate::support::{Mode, PATIENCE, Process, Proxy, RunningUserService, TestDatabase, channel_to, eventually, group};

/// Readiness must last for at least this long after the database went away: a failover takes no replica out. The service's own
/// is 12 s; a probe may have been on its way when it began.
const HYSTERESIS_AT_LEAST: Duration = Duration::from_secs(10);
const HYSTERESIS: Duration = Duration::from_secs(12);

const STARTED: Verdict = Verdict { started: true, ready: false, restart: false };
const READY: Verdict = Verdict { ready: true, ..STARTED };

/// A service as its manifest has it, on a database of its own behind a proxy.
struct Pod {
    service: &'static str,
    schema: &'static str,
    manifest: Manifest,
    database: TestDatabase,
    proxy: Proxy,
}

impl Pod {
    async fn of(service: &'static str, schema: &'static str, mode: Mode) -> Self {
        let (database, proxy) = (TestDatabase::empty().await, Proxy::start(mode).await);
        Self { service, schema, manifest: Manifest::of(service), database, proxy }
    }

    /// The variables of the manifest, but for what would leave this machine or take a port that is in use.
    fn settings(&self, user_service: SocketAddr) -> Vec<(String, String)> {
        let mut settings = self.manifest.settings.clone();
        settings.push(("DATABASE_URL".to_owned(), String::new()));
        for (name, value) in &mut settings {
            match name.as_str() {
                "LISTEN" | "ADMIN_LISTEN" => "127.0.0.1:0".clone_into(value),
                "USER_SERVICE_URL" => *value = format!("http://{user_service}"),
                "DATABASE_URL" => *value = self.database.url_through(self.proxy.port()),
                _ => {}
            }
        }
        settings
    }

    /// Runs the init container to its end.
    async fn prepare(&self) -> Option<i32> {
        let settings = self.settings(([127, 0, 0, 1], 1).into());
        Process::run(self.service, &self.manifest.prepare, &settings).await.code()
    }

    async fn run(&self, user_service: SocketAddr) -> (Process, Kubelet) {
        let process = Process::contained(self.service, &self.manifest.run, &self.settings(user_service)).await;
        let kubelet = Kubelet::watch(&self.manifest, process.address());
        (process, kubelet)
    }

    /// What health says to the three probes, asked now.
    async fn health(&self, process: &Process) -> [ServingStatus; 3] {
        let Manifest { startup, readiness, liveness, .. } = &self.manifest;
        let mut said = [ServingStatus::Unknown; 3];
        for (said, probe) in said.iter_mut().zip([startup, readiness, liveness]) {
            *said = ask(process.address(), &probe.service).await.unwrap();
        }
        said
    }

    /// Holds the lock of migrations, as another replica does that migrates.
    async fn lock(&self) -> PgConnection {
        let mut connection = self.database.connect().await;
        let lock = sqlx::query("SELECT pg_advisory_lock(hashtextextended($1, 0))").bind(self.schema);
        lock.execute(&mut connection).await.unwrap();
        connection
    }

    async fn waits_for_the_lock(&self) {
        eventually(PATIENCE, || async {
            let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
                AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
            let (count,): (i64,) = sqlx::query_as(waiting).fetch_one(&mut self.database.connect().await).await.unwrap();
            if count > 0 { Ok(()) } else { Err("nobody waits") }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_of_user_service_is_what_its_probes_say() {
    let pod = Pod::of("user-service", "parlance_user", Mode::Closed).await;
    let nobody = ([127, 0, 0, 1], 1).into();
    live(&pod, nobody, async |address| {
        let user = CreateUserRequest { username: "late".to_owned(), ..CreateUserRequest::default() };
        UserServiceClient::new(channel_to(address)).create_user(user).await.map(drop)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_of_message_service_is_what_its_probes_say() {
    let pod = Pod::of("message-service", "parlance_message", Mode::Closed).await;
    let user_service = RunningUserService::start(&pod.database).await;
    user_service.create("ann").await;
    live(&pod, user_service.address(), async |address| {
        let mut conversations =
            parlance::message::v1::conversation_service_client::ConversationServiceClient::new(channel_to(address));
        conversations.create_conversation(group("late", "ann", &[])).await.map(drop)
    })
    .await;
    user_service.stop().await.unwrap();
}

/// The whole life of a pod. `call` is a call that takes the database, on a new connection.
async fn live(pod: &Pod, user_service: SocketAddr, call: impl AsyncFn(SocketAddr) -> Result<(), tonic::Status>) {
    let Manifest { startup, readiness, grace, .. } = &pod.manifest;

    // The database is away: nothing can be prepared. Whoever runs already waits, and is left alone.
    assert_eq!(pod.prepare().await, Some(1));
    let (mut process, kubelet) = pod.run(user_service).await;
    assert_eq!(pod.health(&process).await, [NotServing, NotServing, Serving]);

    // Another one migrates: it waits for that, for up to two minutes, and the startup probe for longer.
    let lock = pod.lock().await;
    pod.proxy.set(Mode::Open);
    pod.waits_for_the_lock().await;
    assert_eq!(pod.health(&process).await, [NotServing, NotServing, Serving]);
    assert_eq!(kubelet.verdict(), Verdict::default());
    assert!(startup.period * startup.failures >= Duration::from_mins(3));

    // Then it migrates, and calls may come.
    lock.close().await.unwrap();
    kubelet.comes_to(READY, pod.manifest.comes_up_within() + PATIENCE).await;
    assert_eq!(pod.health(&process).await, [Serving; 3]);
    assert_eq!(pod.prepare().await, Some(0));

    // The database goes away: calls go on coming here for a while, and nobody restarts anything.
    let away = Instant::now();
    pod.proxy.set(Mode::Closed);
    let unready = async || match ask(process.address(), &readiness.service).await {
        Ok(NotServing) => Ok(()),
        other => Err(format!("{other:?}")),
    };
    eventually(HYSTERESIS + PATIENCE, unready).await;
    assert!(away.elapsed() >= HYSTERESIS_AT_LEAST, "not ready after {:?}", away.elapsed());
    kubelet.comes_to(STARTED, readiness.patience() + PATIENCE).await;
    assert_eq!(pod.health(&process).await, [Serving, NotServing, Serving]);
    assert_eq!(call(process.address()).await.unwrap_err().code(), Code::Unavailable);

    // And it comes back.
    pod.proxy.set(Mode::Open);
    kubelet.comes_to(READY, readiness.period + PATIENCE).await;

    // The end is told of, and calls are still taken, on new connections too.
    drop(kubelet);
    let told = Instant::now();
    process.terminate();
    eventually(PATIENCE, unready).await;
    assert_eq!(ask(process.address(), &pod.manifest.liveness.service).await, Ok(Serving));
    call(process.address()).await.unwrap();
    let ended = process.ended_within(*grace).await;
    assert_eq!(ended.code(), Some(0), "{}", process.log());
    assert!(told.elapsed() >= pod.manifest.duration("DRAIN_ACCEPT"), "it took calls for {:?}", told.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_init_container_has_done_is_not_done_again() {
    let pod = Pod::of("user-service", "parlance_user", Mode::Open).await;
    assert_eq!(pod.prepare().await, Some(0));
    let (mut process, kubelet) = pod.run(([127, 0, 0, 1], 1).into()).await;
    kubelet.comes_to(READY, pod.manifest.comes_up_within() + PATIENCE).await;
    process.terminate();
    assert_eq!(process.ended().await.code(), Some(0));
    assert!(process.log().contains(r#""applied":0"#), "{}", process.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_stuck_is_restarted() {
    let pod = Pod::of("user-service", "parlance_user", Mode::Open).await;
    let (mut process, kubelet) = pod.run(([127, 0, 0, 1], 1).into()).await;
    kubelet.comes_to(READY, pod.manifest.comes_up_within() + PATIENCE).await;
    process.signal(Signal::SIGSTOP);
    kubelet.comes_to(STARTED, pod.manifest.readiness.patience() + PATIENCE).await;
    let restarted = Verdict { restart: true, ..STARTED };
    kubelet.comes_to(restarted, pod.manifest.liveness.patience() + PATIENCE).await;
    process.kill();
}
