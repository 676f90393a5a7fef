//! Several replicas as separate processes behave as one, even without notifications between them.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use nix::sys::signal::Signal;
use parlance::{
    message::v1::{Event, RemoveMemberRequest, SendMessageRequest, event::Kind as Entry},
    user::v1::DeactivateUserRequest,
};
use parlance_checker::{Recorder, Violation};
use parlance_client::{Client, Draft};
use sqlx::PgConnection;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::load::{Load, Subscriber, assert_kept, check_history, read_logs};
use crate::support::{
    NatsServer, PATIENCE, Process, Reader, World, channel_to, code_and_reason, eventually, group, refused, send,
};

const CONVERSATIONS: [&str; 3] = ["g", "h", "i"];

async fn send_to(process: &Process, recorder: &Recorder, request: SendMessageRequest) -> i64 {
    let sending = recorder.sends(&request);
    let sequence = process.messages().send_message(request).await.unwrap().into_inner().message.unwrap().sequence;
    sending.acknowledged(sequence);
    sequence
}

fn numbered(id: &str, n: usize) -> SendMessageRequest {
    SendMessageRequest { request_id: format!("r-{id}-{n}"), ..send(id, "ann", &format!("text {n}")) }
}

/// Three replicas of message-service and two of user-service; the third message-service uses the second user-service.
struct Fleet {
    replicas: Vec<Process>,
    user_services: [Process; 2],
    world: World,
}

impl Fleet {
    async fn new() -> Self {
        let world = World::with_group().await;
        for id in ["h", "i"] {
            world.create(group(id, "ann", &["ben"])).await;
        }
        let url = world.database.url();
        let user_services = [Process::user_service(&url).await, Process::user_service(&url).await];
        let mut replicas = Vec::new();
        for n in 0..3 {
            let users = user_services[n / 2].address().to_string();
            replicas.push(Process::message_service(&url, &users, &[]).await);
        }
        Self { replicas, user_services, world }
    }

    /// Opens a reader of `g` at each replica, and catches up.
    async fn readers(&self) -> Vec<Reader> {
        join_all(self.replicas.iter().map(async |replica| {
            let mut reader = Reader::open(&replica.messages(), "g", "ben", Some(0)).await.unwrap();
            reader.catch_up().await;
            reader
        }))
        .await
    }
}

/// Silences notifications between replicas: ends every listener session as soon as it appears.
struct Silence {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<i64>,
}

impl Silence {
    fn begin(mut outside: PgConnection) -> Self {
        const END: &str = "
            SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
            WHERE datname = current_database()
                AND application_name IN ('parlance message-service bell', 'parlance message-service listener')";
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let mut ended = 0;
            while !stopped.is_cancelled() {
                let (more,): (i64,) = sqlx::query_as(END).fetch_one(&mut outside).await.unwrap();
                ended += more;
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            ended
        });
        Self { stop, task }
    }

    /// Stops; at least one session must have been ended.
    async fn end(self) {
        self.stop.cancel();
        let ended = self.task.await.unwrap();
        assert!(ended > 0, "no session was ended");
    }
}

async fn load_every_replica(fleet: &Fleet) -> Vec<Violation> {
    let recorder = Recorder::default();
    let (mut loads, mut subscribers) = (Vec::new(), Vec::new());
    for (n, replica) in fleet.replicas.iter().enumerate() {
        let (moving, at) = watch::channel(channel_to(replica.address()));
        for id in CONVERSATIONS {
            subscribers.push((id, Subscriber::begin(&recorder, &format!("ben at {n}"), id, &at)));
        }
        loads.push((Load::begin(&recorder, &format!("load-{n}"), 6, &CONVERSATIONS, &at), moving));
    }
    for (load, _) in &loads {
        load.wait_for(150).await;
    }
    join_all(loads.into_iter().map(|(load, _)| load.end())).await;
    let logs = read_logs(&fleet.replicas[0].messages(), &CONVERSATIONS).await;
    check_history(&recorder, subscribers, &logs, PATIENCE).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_subscriber_receives_every_message_with_and_without_hints() {
    let fleet = Fleet::new().await;
    assert_kept(&load_every_replica(&fleet).await);
    let fleet = Fleet::new().await;
    let silence = Silence::begin(fleet.world.database.connect().await);
    assert_kept(&load_every_replica(&fleet).await);
    silence.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_removed_at_one_replica_receives_no_later_entry_at_any() {
    let fleet = Fleet::new().await;
    let silence = Silence::begin(fleet.world.database.connect().await);
    let mut readers = fleet.readers().await;
    let request =
        RemoveMemberRequest { conversation_id: "g".to_owned(), actor_id: "ann".to_owned(), user_id: "ben".to_owned() };
    fleet.replicas[0].conversations().remove_member(request).await.unwrap();
    for replica in &fleet.replicas {
        replica.messages().send_message(send("g", "ann", "behind your back")).await.unwrap();
        refused(replica.messages().send_message(send("g", "ben", "x")).await, Code::NotFound, "CONVERSATION_NOT_FOUND");
    }
    for reader in &mut readers {
        let (events, status) = reader.end().await;
        let is_own = |event: &Event| matches!(&event.kind, Some(Entry::MemberLeft(change)) if change.user_id == "ben");
        assert!(events.len() == 1 && is_own(&events[0]), "{events:?}");
        refused::<()>(Err(status), Code::PermissionDenied, "NOT_A_MEMBER");
    }
    silence.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_deactivated_at_one_replica_is_refused_and_disconnected_at_all() {
    let fleet = Fleet::new().await;
    let mut readers = fleet.readers().await;
    let mut users =
        parlance::user::v1::user_service_client::UserServiceClient::new(channel_to(fleet.user_services[0].address()));
    users.deactivate_user(DeactivateUserRequest { user_id: "ben".to_owned() }).await.unwrap();
    for (replica, reader) in fleet.replicas.iter().zip(&mut readers) {
        eventually(PATIENCE, || async {
            let answer = replica.messages().send_message(send("g", "ben", "x")).await;
            match answer.map_err(|status| code_and_reason(&status)) {
                Err((Code::FailedPrecondition, reason)) if reason == "USER_DEACTIVATED" => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        refused::<()>(Err(reader.end().await.1), Code::FailedPrecondition, "USER_DEACTIVATED");
    }
}

/// One replica takes hints over NATS, with a planted bug if one is named; of the two that write, only one sends hints.
pub(super) async fn hints_with_gaps(bug: Option<&str>, patience: Duration) -> Vec<Violation> {
    let world = World::with_group().await;
    let nats = NatsServer::start().await;
    let (url, users, bus) = (world.database.url(), world.user_service.address().to_string(), nats.url());
    let on_nats = ["--bus-url", &bus];
    let hinting = Process::message_service(&url, &users, &on_nats).await;
    let silent = Process::message_service(&url, &users, &[]).await;
    let there = Process::message_service_with(bug, None, &url, &users, &on_nats).await;
    let recorder = Recorder::default();
    let (_moving, at) = watch::channel(channel_to(there.address()));
    let subscriber = Subscriber::begin(&recorder, "ben", "g", &at);
    for n in 0..400 {
        send_to([&hinting, &silent][n % 2], &recorder, numbered("g", n)).await;
    }
    let logs = read_logs(&world.messages(), &["g"]).await;
    check_history(&recorder, vec![("g", subscriber)], &logs, patience).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hints_with_gaps_cause_no_gaps() {
    assert_kept(&hints_with_gaps(None, PATIENCE).await);
}

/// Holds a transaction in one conversation open while others commit, and its commit sends no hint; a replica, with a
/// planted bug if one is named, has subscribers of both.
pub(super) async fn late_commit(bug: Option<&str>, open_for: Duration, patience: Duration) -> Vec<Violation> {
    // The transaction of a slow replica.
    const CHANGE: &str = "
        BEGIN;
        UPDATE parlance_message.conversations SET last_sequence = 3, title = 'late', version = 2
        WHERE conversation_id = 'h' AND last_sequence = 2;
        INSERT INTO parlance_message.changes (conversation_id, sequence, kind, actor_id, title, version, created_at)
        VALUES ('h', 3, 6, 'ann', 'late', 2, now());
        INSERT INTO parlance_message.outbox (conversation_ids, last_sequences, user_ids, created_at)
        VALUES ('{h}', '{3}', '{}', now())";
    let world = World::with_group().await;
    world.create(group("h", "ann", &["ben"])).await;
    let (url, users) = (world.database.url(), world.user_service.address().to_string());
    let (here, there) = (
        Process::message_service(&url, &users, &[]).await,
        Process::message_service_with(bug, None, &url, &users, &[]).await,
    );
    let recorder = Recorder::default();
    let (_moving, at) = watch::channel(channel_to(there.address()));
    let subscribers = ["g", "h"].map(|id| (id, Subscriber::begin(&recorder, "ben", id, &at)));
    let mut outside = world.database.connect().await;
    sqlx::raw_sql(CHANGE).execute(&mut outside).await.unwrap();
    let began = Instant::now();
    let mut head = 0;
    for n in 0.. {
        head = send_to(&here, &recorder, numbered("g", n)).await;
        if began.elapsed() > open_for {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Later commits have been delivered, so the outbox was read in the meantime.
    eventually(PATIENCE, || async {
        let position = subscribers[0].1.position();
        if position == head { Ok(()) } else { Err(format!("{position} of {head}")) }
    })
    .await;
    sqlx::raw_sql("COMMIT").execute(&mut outside).await.unwrap();
    let logs = read_logs(&world.messages(), &["g", "h"]).await;
    check_history(&recorder, subscribers.into(), &logs, patience).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_commits_ten_seconds_after_later_ones_is_not_missed() {
    assert_kept(&late_commit(None, Duration::from_secs(10), PATIENCE).await);
}

/// Outbox rows name the entry after the head of a conversation before it is committed; a replica, with a planted bug if one
/// is named, has a subscriber.
pub(super) async fn heads_ahead_of_storage(bug: Option<&str>, patience: Duration) -> Vec<Violation> {
    const HINT: &str = "
        INSERT INTO parlance_message.outbox (conversation_ids, last_sequences, user_ids, created_at)
        VALUES ('{g}', ARRAY[$1::bigint], '{}', now())";
    let world = World::with_group().await;
    let (url, users) = (world.database.url(), world.user_service.address().to_string());
    let (here, there) = (
        Process::message_service(&url, &users, &[]).await,
        Process::message_service_with(bug, None, &url, &users, &[]).await,
    );
    let recorder = Recorder::default();
    let (_moving, at) = watch::channel(channel_to(there.address()));
    let subscriber = Subscriber::begin(&recorder, "ben", "g", &at);
    let mut head = send_to(&here, &recorder, numbered("g", 0)).await;
    eventually(PATIENCE, || async {
        let position = subscriber.position();
        if position == head { Ok(()) } else { Err(format!("{position} of {head}")) }
    })
    .await;
    let mut outside = world.database.connect().await;
    for n in 1..4 {
        sqlx::query(HINT).bind(head + 1).execute(&mut outside).await.unwrap();
        // Longer than the replica takes to poll the outbox, and its subscriber to read a page.
        tokio::time::sleep(Duration::from_secs(1)).await;
        head = send_to(&here, &recorder, numbered("g", n)).await;
    }
    send_to(&here, &recorder, numbered("g", 4)).await;
    let logs = read_logs(&world.messages(), &["g"]).await;
    check_history(&recorder, vec![("g", subscriber)], &logs, patience).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_ahead_of_storage_moves_no_position() {
    assert_kept(&heads_ahead_of_storage(None, PATIENCE).await);
}

/// Pipelines many sends of one session, to a replica with a planted bug if one is named.
pub(super) async fn pipelined(bug: Option<&str>, patience: Duration) -> Vec<Violation> {
    let world = World::with_group().await;
    let (url, users) = (world.database.url(), world.user_service.address().to_string());
    let process = Process::message_service_with(bug, None, &url, &users, &[]).await;
    let recorder = Recorder::default();
    let (_moving, at) = watch::channel(channel_to(process.address()));
    let subscriber = Subscriber::begin(&recorder, "ben", "g", &at);
    let client = Client::new([format!("http://{}", process.address())]).unwrap();
    let (session, _updates) = client.session("ann").send_only().open();
    let mut sending = Vec::new();
    for n in 0..500 {
        let request = numbered("g", n);
        let record = recorder.sends_in("ann's", &request);
        let draft = Draft { request_id: Some(request.request_id), ..Draft::text("g", request.text) };
        let mut send = Box::pin(session.send(draft));
        // Polled once in order: the first poll queues the send.
        let _ = futures_util::poll!(&mut send);
        sending.push(async move { record.acknowledged(send.await.unwrap().sequence) });
    }
    // From the last on: a future that was not queued yet would be overtaken.
    sending.reverse();
    join_all(sending).await;
    let logs = read_logs(&world.messages(), &["g"]).await;
    check_history(&recorder, vec![("g", subscriber)], &logs, patience).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipelined_sends_of_a_session_keep_their_order() {
    assert_kept(&pipelined(None, PATIENCE).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_paused_for_longer_than_the_outbox_retention_misses_nothing() {
    let world = World::with_group().await;
    world.create(group("h", "ann", &["ben"])).await;
    let (url, users) = (world.database.url(), world.user_service.address().to_string());
    let flags = ["--outbox-retention", "1s"];
    let here = Process::message_service(&url, &users, &flags).await;
    let there = Process::message_service(&url, &users, &flags).await;
    let recorder = Recorder::default();
    let (_moving, at) = watch::channel(channel_to(there.address()));
    let subscribers = ["g", "h"].map(|id| (id, Subscriber::begin(&recorder, "ben", id, &at)));
    let caught_up = async |id: usize, head: i64| {
        eventually(PATIENCE, || async {
            let position = subscribers[id].1.position();
            if position == head { Ok(()) } else { Err(format!("{position} of {head}")) }
        })
        .await;
    };
    caught_up(0, send_to(&here, &recorder, numbered("g", 0)).await).await;
    caught_up(1, 2).await;
    there.signal(Signal::SIGSTOP);
    for id in ["g", "h"] {
        send_to(&here, &recorder, numbered(id, 1)).await;
    }
    let outside = tokio::sync::Mutex::new(world.database.connect().await);
    eventually(PATIENCE, || async {
        let rows = "SELECT count(*) FROM parlance_message.outbox";
        let (rows,): (i64,) = sqlx::query_as(rows).fetch_one(&mut *outside.lock().await).await.unwrap();
        if rows == 0 { Ok(()) } else { Err(format!("{rows} rows are kept")) }
    })
    .await;
    there.signal(Signal::SIGCONT);
    let logs = read_logs(&world.messages(), &["g", "h"]).await;
    assert_kept(&check_history(&recorder, subscribers.into(), &logs, PATIENCE).await);
}
