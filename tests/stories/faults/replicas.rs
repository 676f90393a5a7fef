//! Several replicas as processes of their own behave as one, whatever they do not tell each other.

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

use super::load::{Follower, Load, hold, kept, read_logs};
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

/// Three of message-service and two of user-service, the third of message-service asking the second of user-service.
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

    /// A reader of `g` at each replica, who has been told what there is.
    async fn readers(&self) -> Vec<Reader> {
        join_all(self.replicas.iter().map(async |replica| {
            let mut reader = Reader::open(&replica.messages(), "g", "ben", Some(0)).await.unwrap();
            reader.catch_up().await;
            reader
        }))
        .await
    }
}

/// Makes sure that no replica tells another anything: ends every session of a doorbell as soon as it is there.
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

    /// Ends it; something must have been there to silence.
    async fn end(self) {
        self.stop.cancel();
        let ended = self.task.await.unwrap();
        assert!(ended > 0, "nothing was silenced");
    }
}

async fn load_at_each(fleet: &Fleet) -> Vec<Violation> {
    let recorder = Recorder::default();
    let (mut loads, mut followers) = (Vec::new(), Vec::new());
    for (n, replica) in fleet.replicas.iter().enumerate() {
        let (moving, at) = watch::channel(channel_to(replica.address()));
        for id in CONVERSATIONS {
            followers.push((id, Follower::begin(&recorder, &format!("ben at {n}"), id, &at)));
        }
        loads.push((Load::begin(&recorder, &format!("load-{n}"), 6, &CONVERSATIONS, &at), moving));
    }
    for (load, _) in &loads {
        load.more(150).await;
    }
    join_all(loads.into_iter().map(|(load, _)| load.end())).await;
    let logs = read_logs(&fleet.replicas[0].messages(), &CONVERSATIONS).await;
    hold(&recorder, followers, &logs, PATIENCE).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_anywhere_get_everything_sent_anywhere_with_and_without_hints() {
    let fleet = Fleet::new().await;
    kept(&load_at_each(&fleet).await);
    let fleet = Fleet::new().await;
    let silence = Silence::begin(fleet.world.database.connect().await);
    kept(&load_at_each(&fleet).await);
    silence.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_removed_at_one_sees_that_and_nothing_after_it_at_any() {
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
async fn who_is_deactivated_at_one_is_refused_and_ended_at_all() {
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

/// One replica takes hints over NATS, with a bug on purpose if one is named; of the two that write, only one tells it.
pub(super) async fn hints_with_holes(bug: Option<&str>, patience: Duration) -> Vec<Violation> {
    let world = World::with_group().await;
    let nats = NatsServer::start().await;
    let (url, users, bus) = (world.database.url(), world.user_service.address().to_string(), nats.url());
    let on_nats = ["--bus-url", &bus];
    let telling = Process::message_service(&url, &users, &on_nats).await;
    let silent = Process::message_service(&url, &users, &[]).await;
    let there = Process::message_service_with(bug, None, &url, &users, &on_nats).await;
    let recorder = Recorder::default();
    let (_moving, at) = watch::channel(channel_to(there.address()));
    let follower = Follower::begin(&recorder, "ben", "g", &at);
    for n in 0..400 {
        send_to([&telling, &silent][n % 2], &recorder, numbered("g", n)).await;
    }
    let logs = read_logs(&world.messages(), &["g"]).await;
    hold(&recorder, vec![("g", follower)], &logs, patience).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hints_with_holes_make_no_holes() {
    kept(&hints_with_holes(None, PATIENCE).await);
}

/// A transaction in one conversation is held open while others commit, and nothing tells of its end; a replica, with a bug on
/// purpose if one is named, has followers of both.
pub(super) async fn late_commit(bug: Option<&str>, open_for: Duration, patience: Duration) -> Vec<Violation> {
    // What a slow replica's transaction does.
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
    let followers = ["g", "h"].map(|id| (id, Follower::begin(&recorder, "ben", id, &at)));
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
    // What was committed later has been told, so the outbox was read in the meantime.
    eventually(PATIENCE, || async {
        let position = followers[0].1.position();
        if position == head { Ok(()) } else { Err(format!("{position} of {head}")) }
    })
    .await;
    sqlx::raw_sql("COMMIT").execute(&mut outside).await.unwrap();
    let logs = read_logs(&world.messages(), &["g", "h"]).await;
    hold(&recorder, followers.into(), &logs, patience).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_commits_ten_seconds_after_later_ones_is_not_missed() {
    kept(&late_commit(None, Duration::from_secs(10), PATIENCE).await);
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
    let follower = Follower::begin(&recorder, "ben", "g", &at);
    let mut head = send_to(&here, &recorder, numbered("g", 0)).await;
    eventually(PATIENCE, || async {
        let position = follower.position();
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
    hold(&recorder, vec![("g", follower)], &logs, patience).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_ahead_of_storage_moves_no_position() {
    kept(&heads_ahead_of_storage(None, PATIENCE).await);
}

/// A session sends much without waiting, to a replica with a bug on purpose if one is named.
pub(super) async fn pipelined(bug: Option<&str>, patience: Duration) -> Vec<Violation> {
    let world = World::with_group().await;
    let (url, users) = (world.database.url(), world.user_service.address().to_string());
    let process = Process::message_service_with(bug, None, &url, &users, &[]).await;
    let recorder = Recorder::default();
    let (_moving, at) = watch::channel(channel_to(process.address()));
    let follower = Follower::begin(&recorder, "ben", "g", &at);
    let client = Client::new([format!("http://{}", process.address())]).unwrap();
    let (session, _updates) = client.session("ann").send_only().open();
    let mut sending = Vec::new();
    for n in 0..500 {
        let request = numbered("g", n);
        let record = recorder.sends_in("ann's", &request);
        let draft = Draft { request_id: Some(request.request_id), ..Draft::text("g", request.text) };
        let mut send = Box::pin(session.send(draft));
        // Polled once in order: that is where each gets its place.
        let _ = futures_util::poll!(&mut send);
        sending.push(async move { record.acknowledged(send.await.unwrap().sequence) });
    }
    // From the last on: a future that had not got its place would be overtaken.
    sending.reverse();
    join_all(sending).await;
    let logs = read_logs(&world.messages(), &["g"]).await;
    hold(&recorder, vec![("g", follower)], &logs, patience).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_session_sends_without_waiting_keeps_its_order() {
    kept(&pipelined(None, PATIENCE).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_stood_still_for_longer_than_the_outbox_is_kept_misses_nothing() {
    let world = World::with_group().await;
    world.create(group("h", "ann", &["ben"])).await;
    let (url, users) = (world.database.url(), world.user_service.address().to_string());
    let flags = ["--outbox-retention", "1s"];
    let here = Process::message_service(&url, &users, &flags).await;
    let there = Process::message_service(&url, &users, &flags).await;
    let recorder = Recorder::default();
    let (_moving, at) = watch::channel(channel_to(there.address()));
    let followers = ["g", "h"].map(|id| (id, Follower::begin(&recorder, "ben", id, &at)));
    let caught_up = async |id: usize, head: i64| {
        eventually(PATIENCE, || async {
            let position = followers[id].1.position();
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
    kept(&hold(&recorder, followers.into(), &logs, PATIENCE).await);
}
