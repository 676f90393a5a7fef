//! Stories about `StreamMessages`: where it begins, what it shows, how it ends, and what it survives.

mod access;
mod beginning;
mod crowds;
mod drain;
mod live;
mod replicas;
mod slow;
mod standing;

use tonic::Status;

use crate::support::{Reader, World};

/// Follows the group.
async fn follow(world: &World, actor_id: &str, after_sequence: Option<i64>) -> Result<Reader, Status> {
    Reader::open(&world.messages(), "g", actor_id, after_sequence).await
}
