//! Stories about `StreamMessages`: start positions, contents, end, and faults.

mod access;
mod drain;
mod live;
mod many_subscribers;
mod replicas;
mod slow_reader;
mod start;
mod user_state;

use tonic::Status;

use crate::support::{Reader, World};

/// Opens a stream of the group.
async fn follow(world: &World, actor_id: &str, after_sequence: Option<i64>) -> Result<Reader, Status> {
    Reader::open(&world.messages(), "g", actor_id, after_sequence).await
}
