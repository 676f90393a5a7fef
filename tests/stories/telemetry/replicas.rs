//! A replica reads what another one has committed to many conversations together, not as a page for each.

use futures_util::future::join_all;
use parlance::message::v1::SubscribeStart;

use super::{Scrape, Services};
use crate::support::{Inbox, Process, Received, group, send};

const CONVERSATIONS: usize = 30;
const ROUNDS: i64 = 4;

/// Sends a message to each conversation at one process, until the subscriber has all of them.
async fn send_to_all(at: &Process, ids: &[String], inbox: &mut Inbox) {
    let sends = ids.iter().map(|id| {
        let mut messages = at.messages();
        async move { messages.send_message(send(id, "ann", "hello")).await.unwrap() }
    });
    let sent: Vec<_> = join_all(sends).await.into_iter().map(|answer| answer.into_inner().message.unwrap()).collect();
    for message in sent {
        if inbox.positions.get(&message.conversation_id).is_none_or(|position| *position < message.sequence) {
            let is_it = |received: &Received| {
                matches!(received, Received::Event(event)
                    if event.conversation_id == message.conversation_id && event.sequence == message.sequence)
            };
            inbox.until(is_it).await;
        }
    }
}

#[tokio::test]
async fn new_messages_of_another_replica_are_read_together() {
    let services = Services::new(&[]).await;
    let first = &services.message_service;
    let user_service = services.user_service.address().to_string();
    let flags = ["--admin-listen", "127.0.0.1:0"];
    let second = Process::message_service(&services.database.url(), &user_service, &flags).await;
    for name in ["ann", "ben"] {
        services.user_service.create(name).await;
    }
    let ids: Vec<String> = (0..CONVERSATIONS).map(|n| format!("c{n}")).collect();
    for id in &ids {
        first.conversations().create_conversation(group(id, "ann", &["ben"])).await.unwrap();
    }
    let mut inbox = Inbox::subscribe(&second.messages(), "ben", &[], SubscribeStart::Now).await.unwrap();
    inbox.catch_up().await;
    // The first poll of a subscriber reads heads.
    send_to_all(first, &ids, &mut inbox).await;
    let delivered = async |source: &str| {
        Scrape::of(second.admin_address()).await.sum("parlance_live_entries_total", &[&format!("source=\"{source}\"")])
    };
    let before = delivered("page").await;
    for _ in 0..ROUNDS {
        send_to_all(first, &ids, &mut inbox).await;
    }
    let (from_pages, from_rings) = (delivered("page").await - before, delivered("ring").await);
    eprintln!("{from_pages} entries from pages, {from_rings} from rings");
    // Heads that are read again at the same moment jump.
    assert!(from_pages < CONVERSATIONS as u64, "{from_pages} entries from pages, {from_rings} from rings");
}
