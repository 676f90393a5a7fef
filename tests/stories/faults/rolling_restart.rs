//! A deploy as an operator does it: replicas are replaced one after the other, under load, and nobody notices.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use parlance::message::v1::{Event, event::Kind};
use parlance_client::{Client, Draft, Sent, Start, Update};
use tokio::task::JoinSet;

use crate::support::{PATIENCE, Process, World, eventually, group};

/// How many of each; the full size with `PARLANCE_ROLLING=full`.
fn counts() -> (usize, usize) {
    if std::env::var("PARLANCE_ROLLING").is_ok_and(|size| size == "full") { (200, 50) } else { (24, 8) }
}

const CONVERSATIONS: [&str; 4] = ["g", "h", "i", "j"];

/// What one subscriber was told: the entries of each conversation, in the order in which they came.
type Told = HashMap<String, Vec<Event>>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_loses_nothing_doubles_nothing_and_keeps_the_order() {
    let (subscribers, senders) = counts();
    let world = World::with_group().await;
    for id in &CONVERSATIONS[1..] {
        world.create(group(id, "ann", &["ben"])).await;
    }
    let (url, users) = (world.database.url(), world.user_service.address().to_string());
    let mut replicas = Vec::new();
    for _ in 0..3 {
        replicas.push(Process::message_service(&url, &users, &[]).await);
    }
    let addresses: Vec<String> = replicas.iter().map(|replica| format!("http://{}", replica.address())).collect();
    let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let heads: Arc<std::sync::OnceLock<HashMap<String, i64>>> = Arc::default();

    let mut telling = JoinSet::new();
    for n in 0..subscribers {
        let client = Client::new(&addresses).unwrap().starting_at(n);
        telling.spawn(subscriber(client, heads.clone()));
    }
    let mut sending = JoinSet::new();
    for n in 0..senders {
        let client = Client::new(&addresses).unwrap().starting_at(n);
        sending.spawn(sender(client, n, stop.clone(), acknowledged.clone()));
    }
    let more = async |count: usize| {
        let until = acknowledged.load(Ordering::Relaxed) + count;
        eventually(Duration::from_mins(1), || {
            let now = acknowledged.load(Ordering::Relaxed);
            async move { if now >= until { Ok(()) } else { Err(format!("{now} of {until} acknowledged")) } }
        })
        .await;
    };

    more(senders * 10).await;
    for replica in &mut replicas {
        replica.terminate();
        assert!(replica.ended().await.success(), "a drain ends well");
        *replica = Process::message_service_on(replica.address(), &url, &users).await;
        more(senders * 10).await;
    }
    stop.store(true, Ordering::Relaxed);
    let sent: Vec<(String, Sent)> = join_within(sending).await.into_iter().flatten().collect();
    let logs: HashMap<String, Vec<Event>> =
        join_all(CONVERSATIONS.map(async |id| (id.to_owned(), world.log(id, "ann").await))).await.into_iter().collect();
    heads.get_or_init(|| logs.iter().map(|(id, log)| (id.clone(), log.len() as i64)).collect());
    let told = join_within(telling).await;

    println!("{} acknowledged by {senders} senders, told to {subscribers} subscribers", sent.len());
    let mut stored = HashMap::new();
    for event in logs.values().flatten() {
        if let Some(Kind::MessageSent(message)) = &event.kind {
            assert!(stored.insert(message.request_id.clone(), message.clone()).is_none(), "stored twice: {message:?}");
        }
    }
    assert!(stored.len() >= sent.len());
    let mut last: HashMap<(String, String), i64> = HashMap::new();
    for (text, sent) in &sent {
        let message = stored.get(&sent.request_id).unwrap_or_else(|| panic!("lost: {sent:?}"));
        let found = (&message.text, message.sequence, &message.conversation_id, message.create_time);
        assert_eq!(found, (text, sent.sequence, &sent.conversation_id, sent.create_time));
        // Each sender waits for one answer before it sends the next.
        let by = text.split(' ').next().unwrap_or_default().to_owned();
        let before = last.insert((by, sent.conversation_id.clone()), sent.sequence);
        assert!(before.is_none_or(|before| before < sent.sequence), "out of order: {sent:?}");
    }
    for (n, told) in told.iter().enumerate() {
        for (id, log) in &logs {
            let told = &told[id];
            assert_eq!(told.len(), log.len(), "subscriber {n} in {id}");
            assert!(told.iter().zip(log).all(|(told, stored)| told == stored), "subscriber {n} in {id}");
        }
    }
}

async fn join_within<T: 'static>(set: JoinSet<T>) -> Vec<T> {
    tokio::time::timeout(3 * PATIENCE, set.join_all()).await.expect("all end")
}

/// Takes everything from the beginning until it has been told all there is.
async fn subscriber(client: Client, heads: Arc<std::sync::OnceLock<HashMap<String, i64>>>) -> Told {
    let (_session, mut updates) = client.session("ben").start(Start::Beginning).open();
    let mut told = Told::new();
    loop {
        if let Some(heads) = heads.get() {
            let has_all = |(id, head): (&String, &i64)| told.get(id).is_some_and(|told| told.len() as i64 >= *head);
            if heads.iter().all(has_all) {
                return told;
            }
        }
        match tokio::time::timeout(Duration::from_millis(100), updates.next()).await {
            Ok(Some(Update::Event(event))) if event.sequence > 0 => {
                let of_this = told.entry(event.conversation_id.clone()).or_default();
                assert_eq!(event.sequence, of_this.len() as i64 + 1, "a gap, a double, or out of order");
                of_this.push(event);
            }
            Ok(Some(update @ (Update::Closed { .. } | Update::Ended(_)))) => panic!("{update:?}"),
            Ok(None) => panic!("the session has ended"),
            Ok(Some(_)) | Err(_) => {}
        }
    }
}

/// Sends one message after the other; gives what was acknowledged, with its text.
async fn sender(
    client: Client,
    n: usize,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
) -> Vec<(String, Sent)> {
    let (session, _updates) = client.session("ann").send_only().open();
    let mut all = Vec::new();
    for count in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let text = format!("sender-{n} {count}");
        let conversation = CONVERSATIONS[(n + count) % CONVERSATIONS.len()];
        let sent = session.send(Draft::text(conversation, &*text)).await.unwrap();
        acknowledged.fetch_add(1, Ordering::Relaxed);
        all.push((text, sent));
        // Load, not a flood: two cores serve the services and all of these clients.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    all
}
