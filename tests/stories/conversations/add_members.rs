//! `AddMembers` and `RemoveMember`: order, duplicates, bounds, joining a channel, leaving and rejoining.

use parlance::message::v1::{AddMembersRequest, Member, MemberRole, RemoveMemberRequest};
use tonic::Code;

use super::{log_summary, roles_by_user};
use crate::support::{World, channel, group, metadata, refused, violated_fields};

fn ids(members: &[Member]) -> Vec<&str> {
    members.iter().map(|member| &*member.user_id).collect()
}

#[tokio::test]
async fn members_are_returned_in_request_order_and_each_is_added_once() {
    let world = World::with_group().await;
    let added = world.add("g", "ann", &["dan", "ben", "cat", "dan"], MemberRole::Unspecified).await.unwrap();
    assert_eq!(ids(&added), ["dan", "ben", "cat"]);
    assert!(added.iter().all(|member| member.role() == MemberRole::Member && member.join_time.is_some()));
    let log = log_summary(&world, "g", "cat").await;
    assert_eq!(log[2..], ["ann: joined dan MEMBER", "ann: joined cat MEMBER"]);

    // Again: nothing changes, and Ben keeps his role.
    let again = world.add("g", "ann", &["ben", "dan"], MemberRole::Admin).await.unwrap();
    assert!(again.iter().all(|member| member.role() == MemberRole::Member), "{again:?}");
    assert_eq!(log_summary(&world, "g", "ann").await, log);
}

#[tokio::test]
async fn values_at_their_bounds_are_accepted_and_beyond_them_refused() {
    let world = World::with_group().await;
    world.many_users(1002).await;
    let many = (1..=1001).map(|n| format!("u{n}")).collect::<Vec<_>>();
    let asked = |user_ids: &[String]| AddMembersRequest {
        conversation_id: "g".to_owned(),
        actor_id: "ann".to_owned(),
        user_ids: user_ids.to_vec(),
        role: 0,
    };
    for (field, bad) in [
        ("user_ids", asked(&many)),
        ("user_ids", asked(&[])),
        ("user_ids[1]", asked(&["ben".to_owned(), "a b".to_owned()])),
        ("role", AddMembersRequest { role: 9, ..asked(&many[..1]) }),
        ("actor_id", AddMembersRequest { actor_id: String::new(), ..asked(&many[..1]) }),
        ("conversation_id", AddMembersRequest { conversation_id: "a b".to_owned(), ..asked(&many[..1]) }),
    ] {
        let answer = world.conversations().add_members(bad).await;
        assert_eq!(violated_fields(&refused(answer, Code::InvalidArgument, "INVALID_ARGUMENT")), [field]);
    }
    let added = world.conversations().add_members(asked(&many[..1000])).await.unwrap().into_inner();
    assert_eq!(added.members.len(), 1000);
    assert_eq!(world.conversation("g", "u1000").await.unwrap().last_sequence, 1002);
}

#[tokio::test]
async fn any_user_may_join_a_channel_but_only_as_a_plain_member() {
    let world = World::new().await;
    world.users(&["ann", "ben", "cat"]).await;
    world.create(channel("news", "ann", &[])).await;
    for (users, role) in [(&["ben"][..], MemberRole::Admin), (&["ben"], MemberRole::Owner)] {
        refused(world.add("news", "ben", users, role).await, Code::PermissionDenied, "ROLE_INSUFFICIENT");
    }
    for users in [&["cat"][..], &["ben", "cat"]] {
        refused(world.add("news", "ben", users, MemberRole::Member).await, Code::PermissionDenied, "NOT_A_MEMBER");
    }
    let joined = world.add("news", "ben", &["ben"], MemberRole::Unspecified).await.unwrap();
    assert_eq!((ids(&joined), joined[0].role()), (vec!["ben"], MemberRole::Member));
    assert_eq!(log_summary(&world, "news", "cat").await[1..], ["ben: joined ben MEMBER"]);
    // Adding a current member changes nothing, whatever the role of the actor.
    assert_eq!(ids(&world.add("news", "ben", &["ben"], MemberRole::Member).await.unwrap()), ["ben"]);
    assert_eq!(world.send("news", "ben", "hello").await.sequence, 3);
}

#[tokio::test]
async fn a_member_who_rejoins_is_a_new_member_with_nothing_unread() {
    let world = World::with_group().await;
    world.add("g", "ann", &["cat"], MemberRole::Admin).await.unwrap();
    world.remove("g", "cat", "cat").await.unwrap();
    world.send("g", "ann", "meanwhile").await;
    let back = world.add("g", "ann", &["cat"], MemberRole::Member).await.unwrap();
    assert_eq!((back[0].role(), back[0].unread_count), (MemberRole::Member, 0));
    assert_eq!(back[0].last_read_sequence, 6);
    let log = log_summary(&world, "g", "cat").await;
    assert_eq!(
        log[2..],
        ["ann: joined cat ADMIN", "cat: left cat ADMIN", "ann: sent meanwhile", "ann: joined cat MEMBER"]
    );
}

#[tokio::test]
async fn only_a_current_member_can_be_removed() {
    let world = World::with_group().await;
    world.remove("g", "ann", "ben").await.unwrap();
    for user in ["ben", "dan", "missing"] {
        let status = refused(world.remove("g", "ann", user).await, Code::NotFound, "MEMBER_NOT_FOUND");
        assert_eq!(
            (metadata(&status, "conversation_id"), metadata(&status, "user_id")),
            ("g".to_owned(), user.to_owned())
        );
    }
    let bad =
        RemoveMemberRequest { conversation_id: "g".to_owned(), actor_id: "ann".to_owned(), user_id: String::new() };
    let answer = world.conversations().remove_member(bad).await;
    assert_eq!(violated_fields(&refused(answer, Code::InvalidArgument, "INVALID_ARGUMENT")), ["user_id"]);
    assert_eq!(log_summary(&world, "g", "ann").await[2..], ["ann: left ben MEMBER"]);
}

#[tokio::test]
async fn the_last_member_may_leave_and_an_empty_group_is_hidden_from_everyone() {
    let world = World::new().await;
    world.users(&["ann"]).await;
    world.create(group("alone", "ann", &[])).await;
    world.remove("alone", "ann", "ann").await.unwrap();
    refused(world.conversation("alone", "ann").await, Code::NotFound, "CONVERSATION_NOT_FOUND");
    refused(
        world.conversations().create_conversation(group("alone", "ann", &[])).await,
        Code::AlreadyExists,
        "CONVERSATION_ID_TAKEN",
    );

    world.create(channel("news", "ann", &[])).await;
    world.remove("news", "ann", "ann").await.unwrap();
    assert_eq!(log_summary(&world, "news", "ann").await, ["ann: joined ann OWNER", "ann: left ann OWNER"]);
    // An empty channel can be joined again, though it has no owner.
    world.add("news", "ann", &["ann"], MemberRole::Member).await.unwrap();
    assert_eq!(roles_by_user(&world, "news", "ann").await, [("ann".to_owned(), MemberRole::Member)]);
}
