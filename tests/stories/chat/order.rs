use std::collections::HashMap;

use parlance::message::v1::{SubscribeStart, event::Kind};
use sqlx::{Connection, Executor};
use tonic::Code;

use crate::support::{Inbox, Received, Session, World, group, refused, retry_delay};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipelined_sends_are_stored_in_frame_order_and_each_is_answered_once() {
    const EACH: usize = 400;
    let conversations = ["g", "h", "i"];
    let world = World::with_group().await;
    for id in &conversations[1..] {
        world.create(group(id, "ann", &["ben"])).await;
    }
    // A replica that has not cached Ann has to look her up before it stores the first message.
    let replica = world.replica().await;
    let mut ann = Session::send_only(&replica.messages(), "ann").await.unwrap();
    let (mut sent, mut answered) = (HashMap::new(), HashMap::new());
    for n in 0..EACH * conversations.len() {
        let id = conversations[n * 7 % conversations.len()];
        let text = format!("{n:06}");
        sent.insert(ann.send(id, &text), (id, text));
        // Not more than may be unanswered.
        while sent.len() - answered.len() >= 200 {
            let ack = ann.answer().await.unwrap();
            assert!(answered.insert(ack.frame_id, ack).is_none(), "answered twice");
        }
    }
    while answered.len() < sent.len() {
        let ack = ann.answer().await.unwrap();
        assert!(answered.insert(ack.frame_id, ack).is_none(), "answered twice");
    }
    for id in conversations {
        let mut texts = Vec::new();
        for event in world.log(id, "ben").await {
            if let Some(Kind::MessageSent(message)) = event.kind {
                texts.push((message.text, message.sequence));
            }
        }
        assert_eq!(texts.len(), EACH);
        assert!(texts.is_sorted(), "not in order in {id}");
        for (frame_id, (of, text)) in sent.iter().filter(|(_, (of, _))| *of == id) {
            let ack = &answered[frame_id];
            assert_eq!(&*ack.conversation_id, *of);
            assert!(texts.binary_search(&(text.clone(), ack.sequence)).is_ok(), "{ack:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_over_the_limit_are_refused_and_the_stream_is_still_read() {
    let world = World::with_group().await;
    world.create(group("h", "ann", &[])).await;
    let mut ann = Session::send_only(&world.messages(), "ann").await.unwrap();
    let mut outside = world.database.connect().await;
    let mut holding = outside.begin().await.unwrap();
    let hold = "SELECT FROM parlance_message.conversations WHERE conversation_id = 'g' FOR UPDATE";
    holding.execute(hold).await.unwrap();
    let frames: Vec<u64> = (0..300).map(|n| ann.send("g", &format!("{n:03}"))).collect();
    for expected in &frames[256..] {
        let (frame_id, status) = ann.answer().await.unwrap_err();
        assert_eq!(frame_id, *expected);
        let status = refused::<()>(Err(status), Code::ResourceExhausted, "OVERLOADED");
        assert!(retry_delay(&status).is_some());
    }
    holding.rollback().await.unwrap();
    let mut answered = Vec::new();
    for _ in 0..256 {
        answered.push(ann.answer().await.unwrap());
    }
    answered.sort_by_key(|ack| ack.sequence);
    assert!(answered.iter().map(|ack| ack.frame_id).eq(frames[..256].iter().copied()));
    ann.send("h", "and on");
    assert_eq!(ann.answer().await.unwrap().sequence, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reads_no_responses_is_throttled_and_affects_no_other() {
    let world = World::with_group().await;
    let mut rude = Session::send_only(&world.messages(), "ann").await.unwrap();
    // Far more than is buffered for a client that reads nothing.
    for _ in 0..20_000 {
        rude.send("g", " ");
    }
    let mut inbox = Inbox::subscribe(&world.messages(), "ben", &[], SubscribeStart::Now).await.unwrap();
    inbox.catch_up().await;
    world.send("g", "ann", "all well").await;
    assert_eq!(inbox.event().await.sequence, 3);
    for _ in 0..20_000 {
        assert!(matches!(rude.inbox.receive().await, Received::Nack(_)));
    }
}
