//! Hostile clients, one kind after the other, against one replica with default limits: meanwhile the calls of another client
//! are answered, the memory stays bounded, and health is true.
//!
//! Each kind lasts for a second, with 200 calls a second on each connection; `PARLANCE_FLOOD_SECONDS` and `PARLANCE_FLOOD_RATE`
//! change that, and `PARLANCE_FLOOD_KIND` chooses kinds by a part of their name. The hostile clients run in threads of low
//! priority: on their own machines their work would take nothing from the replica; what the replica does for them counts. What
//! the other client's calls took is printed, as a ratio to what they took before, and decides nothing: all share the cores.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use h2::{SendStream, client::SendRequest};
use parlance::message::v1::{
    ChatRequest, Cursor, GetConversationRequest, ListConversationsRequest, SendMessageRequest, SubscribeRequest,
};
use prost::Message;
use tokio::{net::TcpStream, runtime::Runtime};
use tonic::Status;

use super::fault::Fault;
use crate::support::{PATIENCE, Process, World, eventually, group, send_as};

/// The limit of a small pod, less what else is in it.
const MAX_MEMORY: u64 = 400 * 1024 * 1024;

/// The nice value of the hostile clients: where cores are short they get a tenth of what the replica gets.
const NICE: i32 = 10;

/// The conversations of the user with a large inbox.
const LARGE_INBOX: i64 = 2_000;

/// A kind of hostile client: attacks for as long as the future is polled, and counts its attempts.
struct Kind {
    name: &'static str,
    attack: fn(Target) -> BoxFuture<'static, ()>,
}

#[derive(Clone)]
struct Target {
    address: SocketAddr,
    attempts: Arc<AtomicU64>,
}

const KINDS: [Kind; 11] = [
    Kind { name: "sessions begun and not opened", attack: |target| Box::pin(idle_chats(target)) },
    Kind { name: "calls begun and not sent", attack: |target| Box::pin(half_sent_calls(target)) },
    Kind { name: "frames of Chat half sent", attack: |target| Box::pin(half_sent_frames(target)) },
    Kind { name: "refusals of Chat not taken", attack: |target| Box::pin(untaken_refusals(target)) },
    Kind { name: "pages not taken", attack: |target| Box::pin(untaken_pages(target)) },
    Kind { name: "a large inbox listed", attack: |target| Box::pin(large_inbox(target)) },
    Kind { name: "unknown conversations followed", attack: |target| Box::pin(unknown_cursors(target)) },
    Kind { name: "streams opened", attack: |target| Box::pin(many_streams(target)) },
    Kind { name: "unknown users", attack: |target| Box::pin(unknown_users(target)) },
    Kind { name: "large messages of one user", attack: |target| Box::pin(large_messages(target)) },
    Kind { name: "calls cancelled", attack: |target| Box::pin(cancelled_calls(target)) },
];

/// Lets every kind of hostile client attack; reports the memory, and the calls of the other client.
pub(super) async fn flood(fault: &mut Fault) {
    let seconds = std::env::var("PARLANCE_FLOOD_SECONDS").map_or(1, |text| text.parse().expect("seconds"));
    let world = World::new().await;
    world.users(&["ann", "ben", "eve"]).await;
    for (id, owner) in [("g", "ann"), ("h", "ann"), ("e", "eve")] {
        world.create(group(id, owner, if owner == "ann" { &["ben"] } else { &[] })).await;
    }
    fill_inbox(&world).await;
    let (url, users) = (world.database.url(), world.user_service.address().to_string());
    let process = Process::message_service(&url, &users, &[]).await;
    let client = Client { process: &process, sent: 0.into() };
    let (mut worst, mut attacks) = (0.0_f64, 0);
    let idle = client.works_for(Duration::from_secs(seconds), "no one attacks").await;
    eprintln!("{:<32} {:>9} attempts, p99 {:>8.1?}", "no one attacks", 0, idle);
    let hostile = runtime_of_hostile_clients();
    let only = std::env::var("PARLANCE_FLOOD_KIND").unwrap_or_default();
    for Kind { name, attack } in KINDS.iter().filter(|kind| kind.name.contains(&only)) {
        let target = Target { address: process.address(), attempts: Arc::default() };
        let attempts = target.attempts.clone();
        let attacking = hostile.spawn(attack(target));
        let begun = || async { if attempts.load(Ordering::Relaxed) > 0 { Ok(()) } else { Err("no attempt") } };
        eventually(PATIENCE, begun).await;
        let p99 = client.works_for(Duration::from_secs(seconds), name).await;
        assert!(!attacking.is_finished(), "{name}: {:?}", attacking.await);
        attacking.abort();
        let (attempts, memory) = (attempts.load(Ordering::Relaxed), process.peak_memory());
        let ratio = p99.as_secs_f64() / idle.as_secs_f64();
        (worst, attacks) = (worst.max(ratio), attacks + attempts);
        eprintln!("{name:<32} {attempts:>9} attempts, p99 {p99:>8.1?} ({ratio:.1}), {} MiB", memory >> 20);
        assert!(memory < MAX_MEMORY, "{name}: {memory} bytes");
        process.wait_until_serving().await;
    }
    hostile.shutdown_background();
    fault.count_fact("hostile calls", attacks);
    fault.count_fact("MiB of memory at most", process.peak_memory() >> 20);
    fault.count_fact("times the idle p99 at most", worst.ceil() as u64);
    fault.add(KINDS.len(), client.sent.into_inner() as usize, Vec::new());
}

fn runtime_of_hostile_clients() -> Runtime {
    // On Linux a priority is that of a thread.
    let lower_priority = || {
        rustix::process::nice(NICE).expect("a lower priority");
    };
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().on_thread_start(lower_priority).build().expect("a runtime")
}

/// Adds the user `eve` to many conversations.
async fn fill_inbox(world: &World) {
    let fill = "
        INSERT INTO parlance_message.conversations
        SELECT (jsonb_populate_record(c, jsonb_build_object('conversation_id', 'many-' || n))).*
        FROM parlance_message.conversations AS c, generate_series(1, $1) AS n WHERE c.conversation_id = 'e'";
    let members = "
        INSERT INTO parlance_message.members
        SELECT (jsonb_populate_record(m, jsonb_build_object('conversation_id', 'many-' || n))).*
        FROM parlance_message.members AS m, generate_series(1, $1) AS n WHERE m.conversation_id = 'e'";
    let mut outside = world.database.connect().await;
    for statement in [fill, members] {
        sqlx::query(statement).bind(LARGE_INBOX).execute(&mut outside).await.unwrap();
    }
}

/// A client that does nothing wrong.
struct Client<'p> {
    process: &'p Process,
    sent: AtomicU64,
}

impl Client<'_> {
    /// Sends and reads for this long; returns what 99 of 100 calls took at most. None may fail, and health must be true.
    async fn works_for(&self, time: Duration, during: &str) -> Duration {
        let began = Instant::now();
        let mut took = Vec::new();
        while began.elapsed() < time || took.len() < 20 {
            let n = self.sent.fetch_add(1, Ordering::Relaxed);
            let call = Instant::now();
            let sent = self.process.messages().send_message(send_as(&format!("{n}"), "g", "ann", "hello")).await;
            sent.unwrap_or_else(|status| self.failed(during, &status));
            took.push(call.elapsed());
            let call = Instant::now();
            let read = GetConversationRequest { conversation_id: "g".to_owned(), actor_id: "ben".to_owned() };
            let read = self.process.conversations().get_conversation(read).await;
            read.unwrap_or_else(|status| self.failed(during, &status));
            took.push(call.elapsed());
            if n.is_multiple_of(10) {
                self.process.wait_until_serving().await;
            }
        }
        took.sort_unstable();
        took[took.len() * 99 / 100]
    }

    /// Fails with the log's lines about a call.
    fn failed<T>(&self, during: &str, status: &Status) -> T {
        let id = status.metadata().get("x-request-id").and_then(|id| id.to_str().ok()).unwrap_or("no id");
        let log = self.process.log();
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(id)).collect();
        panic!("{during}: {} {}; in the log: {lines:?}", status.code(), status.message());
    }
}

/// A connection of a hostile client.
struct Connection(SendRequest<Bytes>);

impl Connection {
    /// Connects, with a window of so many bytes for each answer.
    async fn open(target: &Target, window: u32) -> Self {
        let tcp = TcpStream::connect(target.address).await.expect("the service accepts");
        let mut builder = h2::client::Builder::new();
        let (client, connection) = builder.initial_window_size(window).handshake(tcp).await.expect("a handshake");
        tokio::spawn(connection);
        Self(client)
    }

    /// Begins a call and sends these bytes of its body; returns its request and its answer.
    async fn begin(&self, target: &Target, path: &str, body: Bytes, is_end: bool) -> Option<Call> {
        let mut client = self.0.clone().ready().await.ok()?;
        let request = http::Request::post(format!("http://localhost{path}"))
            .header("content-type", "application/grpc")
            .header("grpc-timeout", "99999999H")
            .body(())
            .expect("a request");
        let (answer, mut request) = client.send_request(request, false).ok()?;
        target.attempts.fetch_add(1, Ordering::Relaxed);
        if !body.is_empty() || is_end {
            request.send_data(body, is_end).ok()?;
        }
        Some(Call { _request: request, answer })
    }
}

struct Call {
    _request: SendStream<Bytes>,
    answer: h2::client::ResponseFuture,
}

/// Returns a message with its prefix.
fn framed(message: &impl Message) -> Bytes {
    let content = message.encode_to_vec();
    [&[0][..], &(content.len() as u32).to_be_bytes(), &content].concat().into()
}

/// Begins calls on some connections, at a rate, and holds them without taking anything: up to a thousand on each, or until the
/// service ends the connection; then begins again.
async fn repeat(target: Target, path: &'static str, window: u32, connections: usize, body: Bytes, is_end: bool) {
    let attack = (0..connections).map(|_| async {
        loop {
            let connection = Connection::open(&target, window).await;
            let mut calls = Vec::new();
            let mut pace = tokio::time::interval(Duration::from_millis(50));
            while calls.len() < 1_000 {
                pace.tick().await;
                for _ in 0..rate() / 20 {
                    match connection.begin(&target, path, body.clone(), is_end).await {
                        Some(call) => calls.push(call),
                        None => break,
                    }
                }
            }
            let _ =
                tokio::time::timeout(Duration::from_secs(1), join_all(calls.iter_mut().map(|call| &mut call.answer)))
                    .await;
        }
    });
    join_all(attack).await;
}

/// The calls that each connection begins in a second.
fn rate() -> usize {
    std::env::var("PARLANCE_FLOOD_RATE").map_or(200, |text| text.parse().expect("calls per second"))
}

async fn half_sent_calls(target: Target) {
    repeat(target, "/parlance.message.v1.MessageService/SendMessage", 65_535, 5, Bytes::new(), false).await;
}

async fn half_sent_frames(target: Target) {
    let half = [&[0][..], &1_000_000_u32.to_be_bytes(), &vec![7; 60_000]].concat();
    repeat(target, "/parlance.message.v1.MessageService/Chat", 65_535, 3, half.into(), false).await;
}

async fn idle_chats(target: Target) {
    repeat(target, "/parlance.message.v1.MessageService/Chat", 65_535, 3, Bytes::new(), false).await;
}

async fn untaken_refusals(target: Target) {
    let empty: Vec<u8> = (0..2_000).flat_map(|_| framed(&ChatRequest::default())).collect();
    repeat(target, "/parlance.message.v1.MessageService/Chat", 0, 3, empty.into(), false).await;
}

async fn untaken_pages(target: Target) {
    let list = ListConversationsRequest { actor_id: "eve".to_owned(), page_size: 1_000, ..Default::default() };
    repeat(target, "/parlance.message.v1.ConversationService/ListConversations", 0, 3, framed(&list), true).await;
}

async fn large_inbox(target: Target) {
    let list = ListConversationsRequest { actor_id: "eve".to_owned(), page_size: 1_000, ..Default::default() };
    repeat(target, "/parlance.message.v1.ConversationService/ListConversations", 1 << 20, 3, framed(&list), true).await;
}

async fn unknown_cursors(target: Target) {
    let cursor = |n| Cursor { conversation_id: format!("unknown-{n}"), after_sequence: 0 };
    let subscribe = SubscribeRequest {
        actor_id: "eve".to_owned(),
        cursors: (0..10_000).map(cursor).collect(),
        ..Default::default()
    };
    repeat(target, "/parlance.message.v1.MessageService/Subscribe", 0, 3, framed(&subscribe), true).await;
}

async fn many_streams(target: Target) {
    let subscribe = SubscribeRequest { actor_id: "ben".to_owned(), ..Default::default() };
    repeat(target, "/parlance.message.v1.MessageService/Subscribe", 0, 5, framed(&subscribe), true).await;
}

async fn unknown_users(target: Target) {
    let get = GetConversationRequest { conversation_id: "g".to_owned(), actor_id: "stranger".to_owned() };
    repeat(target, "/parlance.message.v1.ConversationService/GetConversation", 65_535, 3, framed(&get), true).await;
}

async fn large_messages(target: Target) {
    let send = SendMessageRequest { text: "x".repeat(16_000), ..send_as("", "e", "eve", "") };
    repeat(target, "/parlance.message.v1.MessageService/SendMessage", 65_535, 3, framed(&send), true).await;
}

/// Cancels each call at once.
async fn cancelled_calls(target: Target) {
    let get = GetConversationRequest { conversation_id: "g".to_owned(), actor_id: "ben".to_owned() };
    loop {
        let connection = Connection::open(&target, 65_535).await;
        let path = "/parlance.message.v1.ConversationService/GetConversation";
        let mut pace = tokio::time::interval(Duration::from_millis(50));
        // Until the service ends the connection.
        'open: loop {
            pace.tick().await;
            for _ in 0..rate() / 20 {
                if connection.begin(&target, path, framed(&get), true).await.is_none() {
                    break 'open;
                }
            }
        }
    }
}
