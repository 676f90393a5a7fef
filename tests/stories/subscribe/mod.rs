//! Stories about `Subscribe`: where each conversation begins, how they come and go, and that none waits for another.

mod beginning;
mod crowds;
mod ending;
mod joining;

use parlance::message::v1::{Event, SubscribeStart, event::Kind};
use tonic::Status;

use crate::support::{Inbox, Told, World};

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

/// The sequences told of one conversation, in order.
fn sequences(told: &[Told], conversation_id: &str) -> Vec<i64> {
    let events = told.iter().filter_map(|told| match told {
        Told::Event(event) if event.conversation_id == conversation_id => Some(event.sequence),
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
