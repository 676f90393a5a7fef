//! Every RPC about one conversation, each called once by one actor, for stories that hold for all of them.

use parlance::message::v1::{
    Conversation, DeleteMessageRequest, EditMessageRequest, GetMessageRequest, ListEventsRequest, ListMembersRequest,
    ListMessagesRequest, MarkReadRequest, MemberRole, UpdateConversationRequest,
};
use tonic::Status;

use super::set_role;
use crate::support::{Reader, World, send};

/// An RPC and its result.
pub(super) type Answer = (&'static str, Result<(), Status>);

/// Calls the RPCs that read.
pub(super) async fn reads(world: &World, conversation_id: &str, actor_id: &str, sequence: i64) -> Vec<Answer> {
    let (conversation_id, actor_id) = (conversation_id.to_owned(), actor_id.to_owned());
    let mut messages = world.messages();
    let stream = match Reader::open(&messages, &conversation_id, &actor_id, Some(0)).await {
        Ok(mut reader) if sequence > 0 => {
            reader.up_to(1).await;
            Ok(())
        }
        // For a hidden conversation the refusal may also end an open stream.
        Ok(mut reader) => Err(reader.end().await.1),
        Err(status) => Err(status),
    };
    let message = GetMessageRequest {
        conversation_id: conversation_id.clone(),
        actor_id: actor_id.clone(),
        sequence: sequence.max(1),
    };
    let list = ListMessagesRequest {
        conversation_id: conversation_id.clone(),
        actor_id: actor_id.clone(),
        ..Default::default()
    };
    let events = ListEventsRequest {
        conversation_id: conversation_id.clone(),
        actor_id: actor_id.clone(),
        ..Default::default()
    };
    vec![
        ("GetConversation", world.conversation(&conversation_id, &actor_id).await.map(drop)),
        ("GetMessage", messages.get_message(message).await.map(drop)),
        ("ListMessages", messages.list_messages(list).await.map(drop)),
        ("ListEvents", messages.list_events(events).await.map(drop)),
        ("StreamMessages", stream),
    ]
}

/// Calls the RPCs that require membership; allowed, each would change something.
pub(super) async fn acts(world: &World, conversation_id: &str, actor_id: &str, sequence: i64) -> Vec<Answer> {
    let (conversation_id, actor_id, sequence) = (conversation_id.to_owned(), actor_id.to_owned(), sequence.max(1));
    let (mut conversations, mut messages) = (world.conversations(), world.messages());
    let title =
        Conversation { conversation_id: conversation_id.clone(), title: "new".to_owned(), ..Default::default() };
    let update = UpdateConversationRequest { conversation: Some(title), update_mask: None, actor_id: actor_id.clone() };
    let members = ListMembersRequest {
        conversation_id: conversation_id.clone(),
        actor_id: actor_id.clone(),
        ..Default::default()
    };
    let mark = MarkReadRequest { conversation_id: conversation_id.clone(), actor_id: actor_id.clone(), sequence: 1 };
    let edit = EditMessageRequest {
        conversation_id: conversation_id.clone(),
        actor_id: actor_id.clone(),
        sequence,
        text: "new".to_owned(),
        ..Default::default()
    };
    let delete =
        DeleteMessageRequest { conversation_id: conversation_id.clone(), actor_id: actor_id.clone(), sequence };
    let admin = MemberRole::Admin;
    vec![
        ("UpdateConversation", conversations.update_conversation(update).await.map(drop)),
        ("AddMembers", world.add(&conversation_id, &actor_id, &["dan"], MemberRole::Member).await.map(drop)),
        ("RemoveMember", world.remove(&conversation_id, &actor_id, "ben").await),
        ("UpdateMember", set_role(world, &conversation_id, &actor_id, "ben", admin).await.map(drop)),
        ("ListMembers", conversations.list_members(members).await.map(drop)),
        ("MarkRead", conversations.mark_read(mark).await.map(drop)),
        ("SendMessage", world.try_send(send(&conversation_id, &actor_id, "hello")).await.map(drop)),
        ("EditMessage", messages.edit_message(edit).await.map(drop)),
        ("DeleteMessage", messages.delete_message(delete).await.map(drop)),
    ]
}
