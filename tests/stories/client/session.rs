use futures_util::future::join_all;
use parlance::message::v1::event::Kind;
use parlance_client::{Draft, Start, Transport, Update};

use super::{caught_up, client, is_entry, sequences, until};
use crate::support::{Mode, PATIENCE, Process, Proxy, World, group};

const TRANSPORTS: [Transport; 2] = [Transport::Chat, Transport::Subscribe];

#[tokio::test]
async fn what_is_sent_is_stored_and_told_over_either_transport() {
    let world = World::with_group().await;
    let client = client(&[world.message_service.address()]);
    for (round, transport) in TRANSPORTS.into_iter().enumerate() {
        let (ann, mut told, history) =
            caught_up(client.session("ann").start(Start::Beginning).transport(transport)).await;
        let head = 2 + 2 * round as i64;
        assert_eq!(sequences(&history, "g"), (1..=head).collect::<Vec<_>>());
        let sent = ann.send(Draft::text("g", "hello")).await.unwrap();
        assert_eq!((sent.sequence, sent.duplicate), (head + 1, false));
        until(&mut told, |update| is_entry(update, "g", head + 1)).await;
        let again = Draft { request_id: Some(sent.request_id.clone()), ..Draft::text("g", "hello") };
        let again = ann.send(again).await.unwrap();
        assert!(again.duplicate && again.sequence == sent.sequence && again.create_time == sent.create_time);
        assert_eq!(ann.mark_read("g", 99).await.unwrap(), head + 1);
        ann.typing("g").await.unwrap();
        world.send("g", "ben", "hi").await;
        until(&mut told, |update| is_entry(update, "g", head + 2)).await;
        assert_eq!(ann.cursors()["g"], head + 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_goes_on_when_connections_break_and_keeps_the_order() {
    const ROUNDS: usize = 8;
    const EACH: usize = 40;
    let world = World::with_group().await;
    world.create(group("h", "ann", &["ben"])).await;
    for transport in TRANSPORTS {
        let before = world.log("g", "ann").await.len() as i64;
        let proxy = Proxy::before(world.message_service.address().to_string(), Mode::Open).await;
        let client = client(&[format!("127.0.0.1:{}", proxy.port()).parse().unwrap()]);
        let (ann, mut told, _) = caught_up(client.session("ann").start(Start::Now).transport(transport)).await;
        let mut sending = Vec::new();
        for round in 0..ROUNDS {
            for n in 0..EACH {
                let conversation = if n % 4 == 0 { "h" } else { "g" };
                let text = format!("{transport:?} {:04}", round * EACH + n);
                // Polled once in order: that is where each gets its place.
                let mut send = Box::pin(ann.send(Draft::text(conversation, text)));
                let _ = futures_util::poll!(&mut send);
                sending.push(send);
            }
            proxy.set([Mode::Closed, Mode::LosingAnswers][round % 2]);
            tokio::time::sleep(std::time::Duration::from_millis(30)).await;
            proxy.set(Mode::Open);
        }
        for sent in join_all(sending).await {
            sent.unwrap();
        }
        for id in ["g", "h"] {
            let log = world.log(id, "ann").await;
            let texts = log.iter().filter_map(|event| match &event.kind {
                Some(Kind::MessageSent(message)) if message.text.starts_with(&format!("{transport:?}")) => {
                    Some(message.text.clone())
                }
                _ => None,
            });
            let texts: Vec<String> = texts.collect();
            let of_it = if id == "h" { EACH / 4 } else { EACH - EACH / 4 };
            assert_eq!(texts.len(), ROUNDS * of_it, "each once");
            assert!(texts.is_sorted(), "{texts:?}");
        }
        let head = world.log("g", "ann").await.len() as i64;
        let told = until(&mut told, |update| is_entry(update, "g", head)).await;
        assert_eq!(sequences(&told, "g"), (before + 1..=head).collect::<Vec<_>>());
        assert!(told.iter().any(|update| matches!(update, Update::Disconnected { .. })));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_goes_on_when_the_service_is_killed_and_comes_back() {
    let world = World::with_group().await;
    let (url, users) = (world.database.url(), world.user_service.address().to_string());
    let mut process = Process::message_service(&url, &users, &[]).await;
    let client = client(&[process.address()]);
    let (ann, mut told, _) = caught_up(client.session("ann").start(Start::Now)).await;
    for round in 0..3 {
        ann.send(Draft::text("g", "while it is there")).await.unwrap();
        process.kill();
        let sending = ann.send(Draft::text("g", "while it is away"));
        world.send("g", "ben", "elsewhere").await;
        let (sent, restarted) = tokio::join!(sending, Process::message_service_on(process.address(), &url, &users));
        process = restarted;
        let sent = sent.unwrap();
        assert_eq!(sent.sequence, 5 + 3 * round);
        let told = until(&mut told, |update| is_entry(update, "g", sent.sequence)).await;
        assert_eq!(sequences(&told, "g"), [sent.sequence - 2, sent.sequence - 1, sent.sequence]);
    }
}

#[tokio::test]
async fn another_session_takes_up_with_the_cursors() {
    let world = World::with_group().await;
    let client = client(&[world.message_service.address()]);
    let (ben, told, _) = caught_up(client.session("ben").start(Start::Beginning)).await;
    let cursors = ben.cursors();
    drop((ben, told));
    world.send("g", "ann", "meanwhile").await;
    let (_ben, _, told) = caught_up(client.session("ben").start(Start::Beginning).cursors(cursors)).await;
    assert_eq!(sequences(&told, "g"), [3]);
}

#[tokio::test]
async fn what_was_asked_for_before_the_handle_is_dropped_is_still_done() {
    let world = World::with_group().await;
    let client = client(&[world.message_service.address()]);
    for transport in TRANSPORTS {
        let (ann, mut told) = client.session("ann").send_only().transport(transport).open();
        let mut sending: Vec<_> = (0..50).map(|n| Box::pin(ann.send(Draft::text("g", format!("{n:02}"))))).collect();
        for send in &mut sending {
            let _ = futures_util::poll!(send);
        }
        drop(ann);
        let sent = tokio::time::timeout(PATIENCE, join_all(sending)).await.unwrap();
        assert!(sent.iter().all(Result::is_ok), "{sent:?}");
        assert!(sent.windows(2).all(|pair| pair[0].as_ref().unwrap().sequence < pair[1].as_ref().unwrap().sequence));
        while let Some(update) = tokio::time::timeout(PATIENCE, told.next()).await.expect("an end") {
            assert!(matches!(update, Update::Connected), "{update:?}");
        }
    }
}
