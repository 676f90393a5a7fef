use std::collections::BTreeMap;

use futures_util::future::join_all;
use parlance::message::v1::Event;
use parlance_checker::{Recorder, check};
use parlance_client::{Draft, Start, Transport, Update};

use super::{caught_up, client, is_entry, sequences, until};
use crate::support::{Mode, PATIENCE, Process, Proxy, World, group, send_as};

const TRANSPORTS: [Transport; 2] = [Transport::Chat, Transport::Subscribe];

#[tokio::test]
async fn a_message_is_stored_and_delivered_over_either_transport() {
    let world = World::with_group().await;
    let client = client(&[world.message_service.address()]);
    for (round, transport) in TRANSPORTS.into_iter().enumerate() {
        let (ann, mut updates, history) =
            caught_up(client.session("ann").start(Start::Beginning).transport(transport)).await;
        let head = 2 + 2 * round as i64;
        assert_eq!(sequences(&history, "g"), (1..=head).collect::<Vec<_>>());
        let sent = ann.send(Draft::text("g", "hello")).await.unwrap();
        assert_eq!((sent.sequence, sent.duplicate), (head + 1, false));
        until(&mut updates, |update| is_entry(update, "g", head + 1)).await;
        let again = Draft { request_id: Some(sent.request_id.clone()), ..Draft::text("g", "hello") };
        let again = ann.send(again).await.unwrap();
        assert!(again.duplicate && again.sequence == sent.sequence && again.create_time == sent.create_time);
        assert_eq!(ann.mark_read("g", 99).await.unwrap(), head + 1);
        ann.typing("g").await.unwrap();
        world.send("g", "ben", "hi").await;
        until(&mut updates, |update| is_entry(update, "g", head + 2)).await;
        assert_eq!(ann.cursors()["g"], head + 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_resumes_after_broken_connections_and_keeps_the_order() {
    const ROUNDS: usize = 8;
    const EACH: usize = 40;
    for transport in TRANSPORTS {
        let world = World::with_group().await;
        world.create(group("h", "ann", &["ben"])).await;
        let proxy = Proxy::before(world.message_service.address().to_string(), Mode::Open).await;
        let client = client(&[format!("127.0.0.1:{}", proxy.port()).parse().unwrap()]);
        let (ann, mut updates, _) = caught_up(client.session("ann").start(Start::Now).transport(transport)).await;
        let recorder = Recorder::default();
        let mut sending = Vec::new();
        for n in 0..ROUNDS * EACH {
            let id = if n % 4 == 0 { "h" } else { "g" };
            let request = send_as(&format!("r{n}"), id, "ann", &format!("text {n}"));
            let record = recorder.sends_in("ann", &request);
            let draft = Draft { request_id: Some(request.request_id), ..Draft::text(id, request.text) };
            // Polled once in order: the first poll queues the send.
            let mut send = Box::pin(ann.send(draft));
            let _ = futures_util::poll!(&mut send);
            sending.push(async move { record.acknowledged(send.await.unwrap().sequence) });
            if n % EACH == EACH - 1 {
                proxy.set([Mode::Closed, Mode::LosingResponses][n / EACH % 2]);
                tokio::time::sleep(std::time::Duration::from_millis(30)).await;
                proxy.set(Mode::Open);
            }
        }
        join_all(sending).await;
        let logs = ["g", "h"].map(async |id| (id.to_owned(), world.log(id, "ann").await));
        let logs: BTreeMap<String, Vec<Event>> = join_all(logs).await.into_iter().collect();
        let head = |id: &str| logs[id].len() as i64;
        let readings = ["g", "h"].map(|id| (id, recorder.reads("ann", id, 2)));
        let mut is_disconnected = false;
        while readings.iter().any(|(id, _)| ann.cursors()[*id] < head(id)) {
            for update in until(&mut updates, |_| true).await {
                is_disconnected |= matches!(update, Update::Disconnected { .. });
                if let Update::Event(event) = update
                    && event.sequence > 0
                {
                    for (_, reading) in readings.iter().filter(|(id, _)| *id == event.conversation_id) {
                        reading.received(&event);
                    }
                }
            }
        }
        for (_, reading) in &readings {
            reading.must_have_all();
        }
        let broken = check(&recorder.history(), &logs);
        assert!(broken.is_empty(), "{transport:?}: {broken:?}");
        assert!(is_disconnected, "{transport:?}: no connection broke");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_resumes_after_the_service_is_killed_and_restarted() {
    let world = World::with_group().await;
    let (url, users) = (world.database.url(), world.user_service.address().to_string());
    let mut process = Process::message_service(&url, &users, &[]).await;
    let client = client(&[process.address()]);
    let (ann, mut updates, _) = caught_up(client.session("ann").start(Start::Now)).await;
    for round in 0..3 {
        ann.send(Draft::text("g", "while it is there")).await.unwrap();
        process.kill();
        let sending = ann.send(Draft::text("g", "while it is away"));
        world.send("g", "ben", "elsewhere").await;
        let (sent, restarted) = tokio::join!(sending, Process::message_service_on(process.address(), &url, &users));
        process = restarted;
        let sent = sent.unwrap();
        assert_eq!(sent.sequence, 5 + 3 * round);
        let received = until(&mut updates, |update| is_entry(update, "g", sent.sequence)).await;
        assert_eq!(sequences(&received, "g"), [sent.sequence - 2, sent.sequence - 1, sent.sequence]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_of_more_than_ten_thousand_conversations_resumes() {
    const MANY: i64 = 10_001;
    for transport in TRANSPORTS {
        let world = World::with_group().await;
        world.database.join_many("cat", MANY).await;
        let proxy = Proxy::before(world.message_service.address().to_string(), Mode::Open).await;
        let client = client(&[format!("127.0.0.1:{}", proxy.port()).parse().unwrap()]);
        let (cat, mut updates, _) = caught_up(client.session("cat").start(Start::Now).transport(transport)).await;
        assert_eq!(cat.cursors().len() as i64, MANY);
        proxy.set(Mode::Closed);
        until(&mut updates, |update| matches!(update, Update::Disconnected { .. })).await;
        // Sending moves the read mark, too: a conversation without a cursor starts after it.
        let moved = ["c1", "c500", "c5000", "c10000", "c10001"];
        for id in moved {
            world.send(id, "cat", "from another device").await;
        }
        proxy.set(Mode::Open);
        let received = until(&mut updates, |update| matches!(update, Update::AllCaughtUp)).await;
        for id in moved {
            assert_eq!(sequences(&received, id), [2], "{transport:?}: {id}");
        }
    }
}

#[tokio::test]
async fn a_new_session_resumes_from_saved_cursors() {
    let world = World::with_group().await;
    let client = client(&[world.message_service.address()]);
    let (ben, updates, _) = caught_up(client.session("ben").start(Start::Beginning)).await;
    let cursors = ben.cursors();
    drop((ben, updates));
    world.send("g", "ann", "meanwhile").await;
    let (_ben, _, received) = caught_up(client.session("ben").start(Start::Beginning).cursors(cursors)).await;
    assert_eq!(sequences(&received, "g"), [3]);
}

#[tokio::test]
async fn cursors_follow_the_application_and_not_the_session() {
    let world = World::with_group().await;
    let client = client(&[world.message_service.address()]);
    let (ben, mut updates) = client.session("ben").start(Start::Beginning).open();
    for _ in 0..20 {
        world.send("g", "ann", "x").await;
    }
    // Meanwhile the session receives it.
    ben.mark_read("g", 22).await.unwrap();
    assert!(ben.cursors().is_empty(), "{:?}", ben.cursors());
    for sequence in 1..=22 {
        until(&mut updates, |update| is_entry(update, "g", sequence)).await;
        assert_eq!(ben.cursors()["g"], sequence);
    }
}

#[tokio::test]
async fn requests_made_before_the_handle_is_dropped_are_completed() {
    let world = World::with_group().await;
    let client = client(&[world.message_service.address()]);
    for transport in TRANSPORTS {
        let (ann, mut updates) = client.session("ann").send_only().transport(transport).open();
        let mut sending: Vec<_> = (0..50).map(|n| Box::pin(ann.send(Draft::text("g", format!("{n:02}"))))).collect();
        for send in &mut sending {
            let _ = futures_util::poll!(send);
        }
        drop(ann);
        let sent = tokio::time::timeout(PATIENCE, join_all(sending)).await.unwrap();
        assert!(sent.iter().all(Result::is_ok), "{sent:?}");
        assert!(sent.windows(2).all(|pair| pair[0].as_ref().unwrap().sequence < pair[1].as_ref().unwrap().sequence));
        while let Some(update) = tokio::time::timeout(PATIENCE, updates.next()).await.expect("an end") {
            assert!(matches!(update, Update::Connected), "{update:?}");
        }
    }
}
