//! Stories about the reference client: what an application sees of a session over broken connections, and what it does not.

mod refusals;
mod session;
mod terminal;

use parlance_client::{Client, Session, SessionBuilder, Update, Updates};
use std::net::SocketAddr;

use crate::support::PATIENCE;

fn client(addresses: &[SocketAddr]) -> Client {
    Client::new(addresses.iter().map(|address| format!("http://{address}"))).unwrap()
}

/// A session that is connected and has been told everything there is.
async fn caught_up(builder: SessionBuilder) -> (Session, Updates, Vec<Update>) {
    let (session, mut updates) = builder.open();
    let told = until(&mut updates, |update| matches!(update, Update::AllCaughtUp)).await;
    (session, updates, told)
}

/// Everything up to something, that included.
async fn until(updates: &mut Updates, is_it: impl Fn(&Update) -> bool) -> Vec<Update> {
    let mut told = Vec::new();
    loop {
        let next = tokio::time::timeout(PATIENCE, updates.next()).await;
        let update = next.unwrap_or_else(|_| panic!("silence after {told:?}")).expect("an open session");
        let is_last = is_it(&update);
        told.push(update);
        if is_last {
            return told;
        }
    }
}

/// The sequences of what was told of one conversation.
fn sequences(told: &[Update], conversation_id: &str) -> Vec<i64> {
    let entry = |update: &Update| match update {
        Update::Event(event) if event.conversation_id == conversation_id && event.sequence > 0 => Some(event.sequence),
        _ => None,
    };
    told.iter().filter_map(entry).collect()
}

/// Whether an update is this entry.
fn is_entry(update: &Update, conversation_id: &str, sequence: i64) -> bool {
    matches!(update, Update::Event(event) if event.conversation_id == conversation_id && event.sequence == sequence)
}
