//! The rights of owners, admins and members over each other, as one matrix, and the last owner.

use parlance::message::v1::{
    Conversation, DeleteMessageRequest, MemberRole, UpdateConversationRequest, UpdateMemberRequest,
};
use tonic::{Code, Status};

use super::{log_summary, roles_by_user, set_role};
use crate::support::{World, group, metadata, preconditions, refused, violated_fields};

const ROLES: [MemberRole; 3] = [MemberRole::Owner, MemberRole::Admin, MemberRole::Member];

/// A group with an actor of one role and a target of another. Ann remains its owner.
struct Cast {
    world: World,
    rounds: usize,
}

impl Cast {
    async fn new() -> Self {
        let world = World::new().await;
        world.users(&["ann", "actor", "target", "other"]).await;
        Self { world, rounds: 0 }
    }

    /// Creates a group with these two roles; returns its id.
    async fn group(&mut self, actor: MemberRole, target: MemberRole) -> String {
        self.rounds += 1;
        let id = format!("g{}", self.rounds);
        self.world.create(group(&id, "ann", &[])).await;
        self.world.add(&id, "ann", &["actor"], actor).await.unwrap();
        self.world.add(&id, "ann", &["target"], target).await.unwrap();
        id
    }
}

/// Checks a result against the rights of the role.
fn check(allowed: bool, answer: Result<(), Status>, conversation_id: &str, what: &str) {
    if allowed {
        assert!(answer.is_ok(), "{what}: {answer:?}");
        return;
    }
    assert!(answer.is_err(), "{what} was allowed");
    let status = refused(answer, Code::PermissionDenied, "ROLE_INSUFFICIENT");
    let about = (metadata(&status, "conversation_id"), metadata(&status, "user_id"));
    assert_eq!(about, (conversation_id.to_owned(), "actor".to_owned()), "{what}");
}

#[tokio::test]
async fn owners_add_members_in_any_role_admins_add_plain_members_and_members_add_none() {
    let mut cast = Cast::new().await;
    for actor in ROLES {
        for role in ROLES {
            let id = cast.group(actor, MemberRole::Member).await;
            let allowed = actor == MemberRole::Owner || (actor == MemberRole::Admin && role == MemberRole::Member);
            let answer = cast.world.add(&id, "actor", &["other"], role).await.map(drop);
            check(allowed, answer, &id, &format!("{actor:?} adds {role:?}"));
            let there = roles_by_user(&cast.world, &id, "ann").await.contains(&("other".to_owned(), role));
            assert_eq!(there, allowed);
        }
    }
}

#[tokio::test]
async fn owners_remove_any_member_admins_remove_plain_members_and_members_remove_none() {
    let mut cast = Cast::new().await;
    for actor in ROLES {
        for target in ROLES {
            let id = cast.group(actor, target).await;
            let allowed = actor == MemberRole::Owner || (actor == MemberRole::Admin && target == MemberRole::Member);
            let answer = cast.world.remove(&id, "actor", "target").await;
            check(allowed, answer, &id, &format!("{actor:?} removes {target:?}"));
            assert_eq!(cast.world.members(&id, "ann").await.len(), if allowed { 2 } else { 3 });
        }
        // Leaving, in any role.
        let id = cast.group(actor, MemberRole::Member).await;
        cast.world.remove(&id, "actor", "actor").await.unwrap();
    }
}

#[tokio::test]
async fn only_owners_change_roles() {
    let mut cast = Cast::new().await;
    for actor in ROLES {
        for (from, to) in [
            (MemberRole::Member, MemberRole::Admin),
            (MemberRole::Member, MemberRole::Owner),
            (MemberRole::Admin, MemberRole::Member),
            (MemberRole::Owner, MemberRole::Member),
        ] {
            let id = cast.group(actor, from).await;
            let answer = set_role(&cast.world, &id, "actor", "target", to).await;
            if let Ok(member) = &answer {
                assert_eq!((&*member.user_id, member.role()), ("target", to));
            }
            check(actor == MemberRole::Owner, answer.map(drop), &id, &format!("{actor:?} makes {from:?} {to:?}"));
        }
    }
    // Members cannot promote themselves, nor can an admin step down: its own role is not below its own role.
    let id = cast.group(MemberRole::Admin, MemberRole::Member).await;
    for to in [MemberRole::Owner, MemberRole::Member] {
        check(false, set_role(&cast.world, &id, "actor", "actor", to).await.map(drop), &id, "an admin and itself");
    }
}

#[tokio::test]
async fn only_owners_and_admins_change_the_title() {
    let mut cast = Cast::new().await;
    for actor in ROLES {
        let id = cast.group(actor, MemberRole::Member).await;
        let title = Conversation { conversation_id: id.clone(), title: "new".to_owned(), ..Default::default() };
        let request =
            UpdateConversationRequest { conversation: Some(title), update_mask: None, actor_id: "actor".to_owned() };
        let answer = cast.world.conversations().update_conversation(request).await.map(drop);
        check(actor != MemberRole::Member, answer, &id, &format!("{actor:?} sets the title"));
    }
}

#[tokio::test]
async fn only_owners_and_admins_delete_messages_of_others() {
    let mut cast = Cast::new().await;
    for actor in ROLES {
        for sender in ["target", "ann", "actor"] {
            let id = cast.group(actor, MemberRole::Member).await;
            let sequence = cast.world.send(&id, sender, "hello").await.sequence;
            let request = DeleteMessageRequest { conversation_id: id.clone(), actor_id: "actor".to_owned(), sequence };
            let answer = cast.world.messages().delete_message(request).await.map(drop);
            let allowed = actor != MemberRole::Member || sender == "actor";
            check(allowed, answer, &id, &format!("{actor:?} deletes a message of {sender}"));
        }
    }
}

#[tokio::test]
async fn the_last_owner_can_neither_leave_nor_be_demoted() {
    let world = World::with_group().await;
    for answer in [
        world.remove("g", "ann", "ann").await,
        set_role(&world, "g", "ann", "ann", MemberRole::Member).await.map(drop),
        set_role(&world, "g", "ann", "ann", MemberRole::Admin).await.map(drop),
    ] {
        let status = refused(answer, Code::FailedPrecondition, "LAST_OWNER");
        let about = (metadata(&status, "conversation_id"), metadata(&status, "user_id"));
        assert_eq!(about, ("g".to_owned(), "ann".to_owned()));
        assert_eq!(preconditions(&status).len(), 1);
    }
    set_role(&world, "g", "ann", "ben", MemberRole::Owner).await.unwrap();
    world.remove("g", "ben", "ann").await.unwrap();
    refused(world.remove("g", "ben", "ann").await, Code::NotFound, "MEMBER_NOT_FOUND");
    world.remove("g", "ben", "ben").await.unwrap();
}

#[tokio::test]
async fn setting_the_same_role_takes_no_sequence() {
    let world = World::with_group().await;
    let member = set_role(&world, "g", "ann", "ben", MemberRole::Member).await.unwrap();
    assert_eq!(member.role(), MemberRole::Member);
    set_role(&world, "g", "ann", "ann", MemberRole::Owner).await.unwrap();
    set_role(&world, "g", "ann", "ben", MemberRole::Admin).await.unwrap();
    assert_eq!(log_summary(&world, "g", "ben").await[2..], ["ann: role ben ADMIN"]);

    let status =
        refused(set_role(&world, "g", "ann", "cat", MemberRole::Admin).await, Code::NotFound, "MEMBER_NOT_FOUND");
    assert_eq!(metadata(&status, "user_id"), "cat");
    for role in [0, 4, -1] {
        let bad = UpdateMemberRequest {
            conversation_id: "g".to_owned(),
            actor_id: "ann".to_owned(),
            user_id: "ben".to_owned(),
            role,
        };
        let answer = world.conversations().update_member(bad).await;
        assert_eq!(violated_fields(&refused(answer, Code::InvalidArgument, "INVALID_ARGUMENT")), ["role"]);
    }
}
