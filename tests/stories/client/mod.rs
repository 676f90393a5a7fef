//! Stories about the reference client: the view of an application of a session over broken connections.

mod refusals;
mod session;
mod terminal;

use parlance_client::{Client, Session, SessionBuilder, Update, Updates};
use std::net::SocketAddr;

use crate::support::PATIENCE;

fn client(addresses: &[SocketAddr]) -> Client {
    Client::new(addresses.iter().map(|address| format!("http://{address}"))).unwrap()
}

/// A connected session that has caught up.
async fn caught_up(builder: SessionBuilder) -> (Session, Updates, Vec<Update>) {
    let (session, mut updates) = builder.open();
    let received = until(&mut updates, |update| matches!(update, Update::AllCaughtUp)).await;
    (session, updates, received)
}

/// Receives up to the first match, inclusive.
async fn until(updates: &mut Updates, is_it: impl Fn(&Update) -> bool) -> Vec<Update> {
    let mut received = Vec::new();
    loop {
        let next = tokio::time::timeout(PATIENCE, updates.next()).await;
        let update = next.unwrap_or_else(|_| panic!("silence after {received:?}")).expect("an open session");
        let is_last = is_it(&update);
        received.push(update);
        if is_last {
            return received;
        }
    }
}

/// The sequences received for one conversation.
fn sequences(received: &[Update], conversation_id: &str) -> Vec<i64> {
    let entry = |update: &Update| match update {
        Update::Event(event) if event.conversation_id == conversation_id && event.sequence > 0 => Some(event.sequence),
        _ => None,
    };
    received.iter().filter_map(entry).collect()
}

/// Returns true if the update is this entry.
fn is_entry(update: &Update, conversation_id: &str, sequence: i64) -> bool {
    matches!(update, Update::Event(event) if event.conversation_id == conversation_id && event.sequence == sequence)
}
