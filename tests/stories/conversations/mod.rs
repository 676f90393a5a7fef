//! Stories about conversations and their members: a file for each subject.

mod add_members;
mod create;
mod details;
mod direct;
mod every_call;
mod inbox;
mod list_members;
mod named_users;
mod read_marks;
mod roles;
mod title;
mod visibility;

use parlance::message::v1::{Event, Member, MemberRole, UpdateMemberRequest, event::Kind};
use tonic::Status;

use crate::support::World;

/// Changes a role.
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

/// Who is in it, and as what.
async fn who(world: &World, conversation_id: &str, actor_id: &str) -> Vec<(String, MemberRole)> {
    let members = world.members(conversation_id, actor_id).await;
    members.into_iter().map(|member| (member.user_id.clone(), member.role())).collect()
}

/// An entry in few words: its kind, who did it, and whom or what it is about.
fn brief(event: &Event) -> String {
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

/// A whole log in few words.
async fn told(world: &World, conversation_id: &str, actor_id: &str) -> Vec<String> {
    world.log(conversation_id, actor_id).await.iter().map(brief).collect()
}
