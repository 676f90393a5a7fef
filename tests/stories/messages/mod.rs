//! Stories about messages: a file for each RPC, then retries, races and the SQL functions called directly.

mod delete_message;
mod edit_message;
mod fresh_database;
mod get_message;
mod limits;
mod list_events;
mod list_messages;
mod races;
mod retries;
mod schema;
mod send_message;

use std::collections::BTreeMap;

use parlance::message::v1::{DeleteMessageRequest, EditMessageRequest, GetMessageRequest, Message};
use tonic::Status;

use crate::support::World;

async fn get(world: &World, conversation_id: &str, sequence: i64, actor_id: &str) -> Result<Message, Status> {
    let request =
        GetMessageRequest { conversation_id: conversation_id.to_owned(), sequence, actor_id: actor_id.to_owned() };
    Ok(world.messages().get_message(request).await?.into_inner())
}

async fn delete(world: &World, conversation_id: &str, sequence: i64, actor_id: &str) -> Result<Message, Status> {
    let request =
        DeleteMessageRequest { conversation_id: conversation_id.to_owned(), sequence, actor_id: actor_id.to_owned() };
    Ok(world.messages().delete_message(request).await?.into_inner())
}

/// Edits the text of a message.
async fn edit(
    world: &World,
    conversation_id: &str,
    sequence: i64,
    actor_id: &str,
    text: &str,
) -> Result<Message, Status> {
    let request = EditMessageRequest {
        conversation_id: conversation_id.to_owned(),
        sequence,
        actor_id: actor_id.to_owned(),
        text: text.to_owned(),
        ..Default::default()
    };
    Ok(world.messages().edit_message(request).await?.into_inner())
}

fn attributes(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}
