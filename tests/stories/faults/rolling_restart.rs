//! A deploy as an operator does it: replicas are replaced one after the other, under load, without an effect on
//! clients.

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use parlance_checker::{Reading, Recorder};
use parlance_client::{Client, Draft, Start, Update};
use tokio::task::JoinSet;

use super::load::{assert_kept, check_history, read_logs};
use crate::support::{PATIENCE, Process, World, eventually, group, send_as};

/// The number of users, conversations and messages; the full size with `PARLANCE_ROLLING=full`.
fn counts() -> (usize, usize) {
    if std::env::var("PARLANCE_ROLLING").is_ok_and(|size| size == "full") { (200, 50) } else { (24, 8) }
}

const CONVERSATIONS: [&str; 4] = ["g", "h", "i", "j"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_loses_and_duplicates_nothing_and_keeps_the_order() {
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
    let heads: Arc<OnceLock<HashMap<String, i64>>> = Arc::default();
    let recorder = Recorder::default();

    let mut receiving = JoinSet::new();
    for n in 0..subscribers {
        let client = Client::new(&addresses).unwrap().starting_at(n);
        receiving.spawn(subscriber(client, recorder.clone(), n, heads.clone()));
    }
    let mut sending = JoinSet::new();
    for n in 0..senders {
        let client = Client::new(&addresses).unwrap().starting_at(n);
        sending.spawn(sender(client, recorder.clone(), n, stop.clone(), acknowledged.clone()));
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
    join_within(sending).await;
    let logs = read_logs(&world.messages(), &CONVERSATIONS).await;
    heads.get_or_init(|| logs.iter().map(|(id, log)| (id.clone(), log.len() as i64)).collect());
    join_within(receiving).await;
    println!(
        "{} acknowledged to {senders} senders, delivered to {subscribers} subscribers",
        acknowledged.load(Ordering::Relaxed)
    );
    assert_kept(&check_history(&recorder, Vec::new(), &logs, PATIENCE).await);
}

async fn join_within<T: 'static>(set: JoinSet<T>) -> Vec<T> {
    tokio::time::timeout(3 * PATIENCE, set.join_all()).await.expect("all end")
}

/// Receives everything from the beginning up to the head.
async fn subscriber(client: Client, recorder: Recorder, n: usize, heads: Arc<OnceLock<HashMap<String, i64>>>) {
    let (_session, mut updates) = client.session("ben").start(Start::Beginning).open();
    let reading = |id: &str| (id.to_owned(), (recorder.reads(&format!("subscriber {n}"), id, 0), 0));
    let mut readings: HashMap<String, (Reading, i64)> = CONVERSATIONS.into_iter().map(reading).collect();
    let began = Instant::now();
    loop {
        if let Some(heads) = heads.get() {
            let has_all = heads.iter().all(|(id, head)| readings[id].1 >= *head);
            if has_all || began.elapsed() > 3 * PATIENCE {
                for (reading, _) in readings.values() {
                    reading.must_have_all();
                }
                return;
            }
        }
        match tokio::time::timeout(Duration::from_millis(100), updates.next()).await {
            Ok(Some(Update::Event(event))) if event.sequence > 0 => {
                let (reading, position) = readings.get_mut(&event.conversation_id).unwrap();
                reading.received(&event);
                *position = event.sequence;
            }
            Ok(Some(update @ (Update::Closed { .. } | Update::Ended(_)))) => panic!("{update:?}"),
            Ok(None) => panic!("the session has ended"),
            Ok(Some(_)) | Err(_) => {}
        }
    }
}

/// Sends one message after the other.
async fn sender(client: Client, recorder: Recorder, n: usize, stop: Arc<AtomicBool>, acknowledged: Arc<AtomicUsize>) {
    let (session, _updates) = client.session("ann").send_only().open();
    for count in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let id = CONVERSATIONS[(n + count) % CONVERSATIONS.len()];
        let request = send_as(&format!("{n}-{count}"), id, "ann", &format!("sender {n}, {count}"));
        let sending = recorder.sends(&request);
        let draft = Draft { request_id: Some(request.request_id), ..Draft::text(id, request.text) };
        sending.acknowledged(session.send(draft).await.unwrap().sequence);
        acknowledged.fetch_add(1, Ordering::Relaxed);
        // A load, not a flood: two cores run the services and all of these clients.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
