//! The lifecycle of a pod as the kubelet sees it: preparing, starting, migrating, ready, a database outage, ending; and
//! a stuck process.

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

/// Readiness must last for at least this long after the database goes down: a failover takes no replica out. The
/// service's own limit is 12 s; a probe may have been in flight when it started.
const HYSTERESIS_AT_LEAST: Duration = Duration::from_secs(10);
const HYSTERESIS: Duration = Duration::from_secs(12);

const STARTED: Verdict = Verdict { started: true, ready: false, restart: false };
const READY: Verdict = Verdict { ready: true, ..STARTED };

/// A service as in its manifest, on its own database behind a proxy.
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

    /// The variables of the manifest, except those that would leave this machine or take a used port.
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
        let process = Process::start_in_container(self.service, &self.manifest.run, &self.settings(user_service)).await;
        let kubelet = Kubelet::watch(&self.manifest, process.address());
        (process, kubelet)
    }

    /// The current health for the three probes.
    async fn health(&self, process: &Process) -> [ServingStatus; 3] {
        let Manifest { startup, readiness, liveness, .. } = &self.manifest;
        let mut statuses = [ServingStatus::Unknown; 3];
        for (status, probe) in statuses.iter_mut().zip([startup, readiness, liveness]) {
            *status = ask(process.address(), &probe.service).await.unwrap();
        }
        statuses
    }

    /// Takes the lock of migrations, as another migrating replica does.
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
            if count > 0 { Ok(()) } else { Err("no session waits") }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_report_the_lifecycle_of_a_user_service_pod() {
    let pod = Pod::of("user-service", "parlance_user", Mode::Closed).await;
    let unreachable = ([127, 0, 0, 1], 1).into();
    run_lifecycle(&pod, unreachable, async |address| {
        let user = CreateUserRequest { username: "late".to_owned(), ..CreateUserRequest::default() };
        UserServiceClient::new(channel_to(address)).create_user(user).await.map(drop)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_report_the_lifecycle_of_a_message_service_pod() {
    let pod = Pod::of("message-service", "parlance_message", Mode::Closed).await;
    let user_service = RunningUserService::start(&pod.database).await;
    user_service.create("ann").await;
    run_lifecycle(&pod, user_service.address(), async |address| {
        let mut conversations =
            parlance::message::v1::conversation_service_client::ConversationServiceClient::new(channel_to(address));
        conversations.create_conversation(group("late", "ann", &[])).await.map(drop)
    })
    .await;
    user_service.stop().await.unwrap();
}

/// Runs the whole lifecycle of a pod. `call` uses the database, on a new connection.
async fn run_lifecycle(
    pod: &Pod,
    user_service: SocketAddr,
    call: impl AsyncFn(SocketAddr) -> Result<(), tonic::Status>,
) {
    let Manifest { startup, readiness, grace, .. } = &pod.manifest;

    // The database is down: preparing fails. A running process waits, and is not restarted.
    assert_eq!(pod.prepare().await, Some(1));
    let (mut process, kubelet) = pod.run(user_service).await;
    assert_eq!(pod.health(&process).await, [NotServing, NotServing, Serving]);

    // Another replica migrates: the pod waits for it and is not restarted meanwhile.
    let lock = pod.lock().await;
    pod.proxy.set(Mode::Open);
    pod.waits_for_the_lock().await;
    assert_eq!(pod.health(&process).await, [NotServing, NotServing, Serving]);
    assert_eq!(kubelet.verdict(), Verdict::default());
    assert!(startup.period * startup.failures >= Duration::from_mins(3));

    // Then it migrates, and is ready for calls.
    lock.close().await.unwrap();
    kubelet.reaches(READY, pod.manifest.comes_up_within() + PATIENCE).await;
    assert_eq!(pod.health(&process).await, [Serving; 3]);
    assert_eq!(pod.prepare().await, Some(0));

    // The database goes down: calls are still routed here for a while, and the container is not restarted.
    let down_since = Instant::now();
    pod.proxy.set(Mode::Closed);
    let unready = async || match ask(process.address(), &readiness.service).await {
        Ok(NotServing) => Ok(()),
        other => Err(format!("{other:?}")),
    };
    eventually(HYSTERESIS + PATIENCE, unready).await;
    assert!(down_since.elapsed() >= HYSTERESIS_AT_LEAST, "not ready after {:?}", down_since.elapsed());
    kubelet.reaches(STARTED, readiness.patience() + PATIENCE).await;
    assert_eq!(pod.health(&process).await, [Serving, NotServing, Serving]);
    assert_eq!(call(process.address()).await.unwrap_err().code(), Code::Unavailable);

    // The database returns.
    pod.proxy.set(Mode::Open);
    kubelet.reaches(READY, readiness.period + PATIENCE).await;

    // The drain is announced, and calls are still accepted, on new connections too.
    drop(kubelet);
    let drained = Instant::now();
    process.terminate();
    eventually(PATIENCE, unready).await;
    assert_eq!(ask(process.address(), &pod.manifest.liveness.service).await, Ok(Serving));
    call(process.address()).await.unwrap();
    let ended = process.ended_within(*grace).await;
    assert_eq!(ended.code(), Some(0), "{}", process.log());
    assert!(
        drained.elapsed() >= pod.manifest.duration("DRAIN_ACCEPT"),
        "calls were accepted for {:?}",
        drained.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn migrations_of_the_init_container_are_not_repeated() {
    let pod = Pod::of("user-service", "parlance_user", Mode::Open).await;
    assert_eq!(pod.prepare().await, Some(0));
    let (mut process, kubelet) = pod.run(([127, 0, 0, 1], 1).into()).await;
    kubelet.reaches(READY, pod.manifest.comes_up_within() + PATIENCE).await;
    process.terminate();
    assert_eq!(process.ended().await.code(), Some(0));
    assert!(process.log().contains(r#""applied":0"#), "{}", process.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stuck_process_is_restarted() {
    let pod = Pod::of("user-service", "parlance_user", Mode::Open).await;
    let (mut process, kubelet) = pod.run(([127, 0, 0, 1], 1).into()).await;
    kubelet.reaches(READY, pod.manifest.comes_up_within() + PATIENCE).await;
    process.signal(Signal::SIGSTOP);
    kubelet.reaches(STARTED, pod.manifest.readiness.patience() + PATIENCE).await;
    let restarted = Verdict { restart: true, ..STARTED };
    kubelet.reaches(restarted, pod.manifest.liveness.patience() + PATIENCE).await;
    process.kill();
}
