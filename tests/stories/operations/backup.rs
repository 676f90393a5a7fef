//! The drill: a backup under load, a disaster, and a restore on another server, with the operators' own scripts.
//! `PARLANCE_BACKUP=full` runs it at full size.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use parlance::message::v1::{
    Event, ListMessagesRequest, ListMessagesResponse, SubscribeStart, event::Kind,
    message_service_client::MessageServiceClient,
};
use parlance_checker::Recorder;
use parlance_standalone::cluster::Cluster;
use sqlx::{Connection, PgConnection};
use tokio::sync::watch;
use tonic::{Code, transport::Channel};

use super::verify;
use crate::{
    faults::load::{Account, Load, Logs, Subscriber, assert_kept, check_history, read_logs},
    support::{
        Inbox, PATIENCE, Process, Reader, Received, World, channel_to, eventually, group, metadata, read_log, refused,
        send, send_as, to_status,
    },
};

const CONVERSATIONS: [&str; 3] = ["g", "h", "i"];

/// The number of messages acknowledged before and after each step.
fn messages_per_step() -> usize {
    if std::env::var("PARLANCE_BACKUP").is_ok_and(|how| how == "full") { 5_000 } else { 300 }
}

/// A backup file, removed when dropped.
struct BackupFile(PathBuf);

impl BackupFile {
    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for BackupFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Runs one of the operators' scripts.
async fn script(name: &str, arguments: &[&str]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(name);
    let mut command = Command::new(script);
    command.args(arguments);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
}

async fn page(client: &MessageServiceClient<Channel>, page_token: &str) -> ListMessagesResponse {
    let request = ListMessagesRequest {
        conversation_id: "g".to_owned(),
        actor_id: "ann".to_owned(),
        page_size: 2,
        page_token: page_token.to_owned(),
        ..Default::default()
    };
    client.clone().list_messages(request).await.unwrap().into_inner()
}

/// The state before the disaster.
struct Before {
    logs: Logs,
    /// Acknowledged messages, by request id.
    account: Account,
    /// The last message acknowledged before the backup started.
    last: Event,
    page_token: String,
}

/// Backs up a busy installation into `file`, continues for a while, and drops it.
async fn back_up_under_load(file: &str) -> Before {
    let world = World::new().await;
    world.users(&["ann", "ben"]).await;
    for id in CONVERSATIONS {
        world.create(group(id, "ann", &["ben"])).await;
    }
    let (url, users) = (world.database.url(), world.user_service.address().to_string());
    let replica = Process::message_service(&url, &users, &[]).await;
    let (_moving, at) = watch::channel(channel_to(replica.address()));
    let recorder = Recorder::default();
    let subscribers = CONVERSATIONS.map(|id| (id, Subscriber::begin(&recorder, "ben", id, &at)));
    let load = Load::begin(&recorder, "before", 24, &CONVERSATIONS, &at);
    load.wait_for(messages_per_step()).await;
    let page_token = page(&world.messages(), "").await.next_page_token;

    let request = send_as("last", "g", "ann", "the last before the backup");
    let sending = recorder.sends(&request);
    let last = world.try_send(request).await.unwrap().message.unwrap().sequence;
    sending.acknowledged(last);
    let acknowledged = load.acknowledged();
    // The rest is noise of the driver.
    let address = url.split('?').next().unwrap();
    script("backup", &[address, file]).await;
    assert!(load.acknowledged() > acknowledged, "no message was acknowledged during the backup");

    load.wait_for(messages_per_step()).await;
    let account = load.end().await;
    let logs = read_logs(&world.messages(), &CONVERSATIONS).await;
    assert_kept(&check_history(&recorder, subscribers.into(), &logs, PATIENCE).await);
    let last = logs["g"][last as usize - 1].clone();
    Before { logs, account, last, page_token }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_acknowledged_before_a_backup_survive_a_restore_and_the_service_continues() {
    let file = BackupFile(std::env::temp_dir().join(format!("parlance-{}.dump", std::process::id())));
    let before = back_up_under_load(file.path()).await;

    // Another server, whose transaction ids are behind those of the first.
    let mut cluster = Cluster::temporary().await.unwrap();
    cluster.create_database("parlance").await.unwrap();
    let url = cluster.url("parlance");
    script("restore", &[file.path(), &url]).await;
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let (foreign,): (i64,) = sqlx::query_as(FOREIGN).fetch_one(&mut connection).await.unwrap();
    assert!(foreign > 0, "the restored outbox has no foreign rows, so this proves nothing");
    assert_sound(&url).await;

    let user_service = Process::user_service(&url).await;
    let users = user_service.address().to_string();
    // Outbox rows older than this are trimmed soon.
    let flags = ["--outbox-retention", "3s"];
    let here = Process::message_service(&url, &users, &flags).await;
    let there = Process::message_service(&url, &users, &flags).await;

    let restored = read_logs(&here.messages(), &CONVERSATIONS).await;
    check_prefixes(&before, &restored);
    assert!(restored["g"].contains(&before.last), "acknowledged before the backup began, and not in it");
    let more = page(&here.messages(), &before.page_token).await;
    assert!(!more.messages.is_empty(), "a page token from before the disaster is still valid");
    check_retries(&before, &restored, &here).await;
    check_cursors(&before, &restored, &there).await;

    // The log continues, densely, at both replicas.
    let (_moving, at) = watch::channel(channel_to(here.address()));
    let (_moving_there, at_there) = watch::channel(channel_to(there.address()));
    let recorder = history_of(&read_logs(&here.messages(), &CONVERSATIONS).await);
    let subscribers = CONVERSATIONS.map(|id| (id, Subscriber::begin(&recorder, "ben", id, &at_there)));
    let load = Load::begin(&recorder, "after", 24, &CONVERSATIONS, &at);
    load.wait_for(messages_per_step()).await;
    load.end().await;
    let logs = read_logs(&there.messages(), &CONVERSATIONS).await;
    assert_kept(&check_history(&recorder, subscribers.into(), &logs, PATIENCE).await);
    for id in CONVERSATIONS {
        assert_eq!(logs[id][..restored[id].len()], restored[id], "restored entries do not change");
    }

    eventually(PATIENCE, || async {
        let mut connection = PgConnection::connect(&url).await.unwrap();
        let (foreign,): (i64,) = sqlx::query_as(FOREIGN).fetch_one(&mut connection).await.unwrap();
        if foreign == 0 { Ok(()) } else { Err(format!("{foreign} rows of the other server's outbox are still there")) }
    })
    .await;
    assert_sound(&url).await;
    drop((here, there, user_service));
    cluster.stop(parlance_standalone::cluster::StopMode::Immediate).await;
}

/// Rows of the outbox with transaction ids that this server has not reached.
const FOREIGN: &str = "
    SELECT count(*) FROM parlance_message.outbox WHERE xact_id >= pg_snapshot_xmax(pg_current_snapshot())";

async fn assert_sound(url: &str) {
    let checked = verify("parlance", url, &[]).await;
    assert_eq!(checked.code, Some(0), "{checked:?}");
}

/// A history that starts with the existing messages.
fn history_of(logs: &Logs) -> Recorder {
    let recorder = Recorder::default();
    for event in logs.values().flatten() {
        if let Some(Kind::MessageSent(message)) = &event.kind {
            let request = send_as(&message.request_id, &message.conversation_id, &message.sender_id, &message.text);
            recorder.sends(&request).acknowledged(message.sequence);
        }
    }
    recorder
}

/// Checks that the restored logs are prefixes of the earlier ones, entry by entry.
fn check_prefixes(before: &Before, restored: &Logs) {
    for id in CONVERSATIONS {
        let (was, is) = (&before.logs[id], &restored[id]);
        assert!(is.len() < was.len(), "{id}: nothing was lost, so this proves nothing");
        assert_eq!(was[..is.len()], is[..], "{id}");
    }
}

/// Checks that retrying a message in the backup stores nothing, and that retrying a lost one stores it.
async fn check_retries(before: &Before, restored: &Logs, here: &Process) {
    let mut lost = 0;
    for (request_id, message) in &before.account {
        let id = &message.conversation_id;
        let is_there = message.sequence <= restored[id].len() as i64;
        if lost == 3 && !is_there {
            continue;
        }
        let again = send_as(request_id, id, "ann", &message.text);
        let answer = here.messages().send_message(again).await.unwrap().into_inner();
        assert_eq!(answer.duplicate, is_there, "{message:?}");
        if is_there {
            assert_eq!(answer.message.as_ref(), Some(message));
        }
        lost += usize::from(!is_there);
    }
    assert_eq!(lost, 3, "nothing was lost, so this proves nothing");
}

/// Checks that subscribers ahead of the restored head are refused, and that all others resume.
async fn check_cursors(before: &Before, restored: &Logs, there: &Process) {
    let end = |logs: &Logs, id: &str| logs[id].len() as i64;
    let ahead = end(&before.logs, "g") + 10;
    let opened = Reader::open(&there.messages(), "g", "ben", Some(ahead)).await.map(drop);
    refused(opened, Code::FailedPrecondition, "SEQUENCE_AHEAD");

    let position = end(restored, "h") - 5;
    let cursors = [("g", ahead), ("h", position)];
    let mut inbox = Inbox::subscribe(&there.messages(), "ben", &cursors, SubscribeStart::Now).await.unwrap();
    let received = inbox.catch_up().await;
    let closed = received.iter().find_map(|received| match received {
        Received::Closed(closed) => Some(closed.clone()),
        _ => None,
    });
    let closed = closed.expect("one of them is closed");
    let status = refused::<()>(Err(to_status(closed.status)), Code::FailedPrecondition, "SEQUENCE_AHEAD");
    let head = read_log(&mut there.messages(), "g", "ben", 1000).await.len();
    assert_eq!((closed.conversation_id, metadata(&status, "last_sequence")), ("g".to_owned(), head.to_string()));
    let resumed = received
        .iter()
        .filter(|received| matches!(received, Received::Event(event) if event.conversation_id == "h"))
        .count();
    assert!(resumed >= 5, "{received:?}");
    // The stream continues for the conversations that were not closed.
    let sent = there.messages().send_message(send("h", "ann", "after the restore")).await.unwrap().into_inner();
    let event = tokio::time::timeout(Duration::from_secs(5), inbox.event()).await.expect("soon");
    assert_eq!(event.sequence, sent.message.unwrap().sequence);
}
