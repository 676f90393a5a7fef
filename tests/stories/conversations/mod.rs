//! Stories about conversations and their members: a file for each subject.

mod add_members;
mod all_rpcs;
mod create_conversation;
mod deleted_owners;
mod details;
mod direct_conversations;
mod list_conversations;
mod list_members;
mod many_read_marks;
mod mark_read;
mod roles;
mod update_conversation;
mod user_checks;
mod visibility;

use parlance::message::v1::{Event, Member, MemberRole, UpdateMemberRequest, event::Kind};
use tonic::Status;

use crate::support::World;

/// Changes the role of a member.
async fn set_role(
    world: &World,
    conversation_id: &str,
    actor_id: &str,
    user_id: &str,
    role: MemberRole,
) -> Result<Member, Status> {
    let request = UpdateMemberRequest {
        conversation_id: conversation_id.to_owned(),
        actor_id: actor_id.to_owned(),
        user_id: user_id.to_owned(),
        role: role.into(),
    };
    Ok(world.conversations().update_member(request).await?.into_inner())
}

/// The members and their roles.
async fn roles_by_user(world: &World, conversation_id: &str, actor_id: &str) -> Vec<(String, MemberRole)> {
    let members = world.members(conversation_id, actor_id).await;
    members.into_iter().map(|member| (member.user_id.clone(), member.role())).collect()
}

/// An entry in short: actor, kind and subject.
fn summarize(event: &Event) -> String {
    let about = match event.kind.as_ref().expect("a kind") {
        Kind::MessageSent(message) => format!("sent {}", message.text),
        Kind::MessageEdited(message) => format!("edited {}", message.sequence),
        Kind::MessageDeleted(message) => format!("deleted {}", message.sequence),
        Kind::MemberJoined(change) => format!("joined {} {}", change.user_id, change.role().as_str_name()),
        Kind::MemberLeft(change) => format!("left {} {}", change.user_id, change.role().as_str_name()),
        Kind::MemberUpdated(change) => format!("role {} {}", change.user_id, change.role().as_str_name()),
        Kind::ConversationUpdated(conversation) => format!("title {}", conversation.title),
        Kind::ReadMarker(_) | Kind::Typing(_) => panic!("{event:?} is in no log"),
    };
    format!("{}: {about}", event.actor_id).replace("MEMBER_ROLE_", "")
}

/// The whole log, an entry in short each.
async fn log_summary(world: &World, conversation_id: &str, actor_id: &str) -> Vec<String> {
    world.log(conversation_id, actor_id).await.iter().map(summarize).collect()
}
