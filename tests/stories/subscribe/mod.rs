//! Stories about `Subscribe`: start positions, joining and leaving conversations, and fairness between them.

mod ending;
mod joining;
mod many_conversations;
mod start;

use parlance::message::v1::{Event, SubscribeStart, event::Kind};
use tonic::Status;

use crate::support::{Inbox, Received, World};

/// Subscribes Ben, from now.
async fn ben_from_now(world: &World) -> Inbox {
    let mut inbox = subscribe(world, "ben", &[], SubscribeStart::Now).await.unwrap();
    inbox.catch_up().await;
    inbox
}

async fn subscribe(
    world: &World,
    actor_id: &str,
    cursors: &[(&str, i64)],
    start: SubscribeStart,
) -> Result<Inbox, Status> {
    Inbox::subscribe(&world.messages(), actor_id, cursors, start).await
}

/// The sequences received for one conversation, in order.
fn sequences(received: &[Received], conversation_id: &str) -> Vec<i64> {
    let events = received.iter().filter_map(|received| match received {
        Received::Event(event) if event.conversation_id == conversation_id => Some(event.sequence),
        _ => None,
    });
    events.collect()
}

fn is_join_of(event: &Event, user_id: &str) -> bool {
    matches!(&event.kind, Some(Kind::MemberJoined(change)) if change.user_id == user_id)
}

fn is_leave_of(event: &Event, user_id: &str) -> bool {
    matches!(&event.kind, Some(Kind::MemberLeft(change)) if change.user_id == user_id)
}
