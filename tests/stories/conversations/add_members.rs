//! `AddMembers` and `RemoveMember`: order, repeats, bounds, joining a channel, leaving and coming back.

use parlance::message::v1::{AddMembersRequest, Member, MemberRole, RemoveMemberRequest};
use tonic::Code;

use super::{told, who};
use crate::support::{World, channel, group, metadata, refused, violated_fields};

fn ids(members: &[Member]) -> Vec<&str> {
    members.iter().map(|member| &*member.user_id).collect()
}

#[tokio::test]
async fn members_are_answered_in_the_order_asked_and_entered_once() {
    let world = World::with_group().await;
    let added = world.add("g", "ann", &["dan", "ben", "cat", "dan"], MemberRole::Unspecified).await.unwrap();
    assert_eq!(ids(&added), ["dan", "ben", "cat"]);
    assert!(added.iter().all(|member| member.role() == MemberRole::Member && member.join_time.is_some()));
    let log = told(&world, "g", "cat").await;
    assert_eq!(log[2..], ["ann: joined dan MEMBER", "ann: joined cat MEMBER"]);

    // Again: nothing happens, and Ben stays what he is.
    let again = world.add("g", "ann", &["ben", "dan"], MemberRole::Admin).await.unwrap();
    assert!(again.iter().all(|member| member.role() == MemberRole::Member), "{again:?}");
    assert_eq!(told(&world, "g", "ann").await, log);
}

#[tokio::test]
async fn bounds_are_met_at_the_edge() {
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
async fn anyone_adds_itself_to_a_channel_as_a_plain_member_only() {
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
    assert_eq!(told(&world, "news", "cat").await[1..], ["ben: joined ben MEMBER"]);
    // To be in already changes nothing, whoever asks.
    assert_eq!(ids(&world.add("news", "ben", &["ben"], MemberRole::Member).await.unwrap()), ["ben"]);
    assert_eq!(world.send("news", "ben", "hello").await.sequence, 3);
}

#[tokio::test]
async fn who_leaves_and_comes_back_is_a_new_member_with_nothing_unread() {
    let world = World::with_group().await;
    world.add("g", "ann", &["cat"], MemberRole::Admin).await.unwrap();
    world.remove("g", "cat", "cat").await.unwrap();
    world.send("g", "ann", "meanwhile").await;
    let back = world.add("g", "ann", &["cat"], MemberRole::Member).await.unwrap();
    assert_eq!((back[0].role(), back[0].unread_count), (MemberRole::Member, 0));
    assert_eq!(back[0].last_read_sequence, 6);
    let log = told(&world, "g", "cat").await;
    assert_eq!(
        log[2..],
        ["ann: joined cat ADMIN", "cat: left cat ADMIN", "ann: sent meanwhile", "ann: joined cat MEMBER"]
    );
}

#[tokio::test]
async fn removing_is_of_members_only_and_not_of_the_same_twice() {
    let world = World::with_group().await;
    world.remove("g", "ann", "ben").await.unwrap();
    for user in ["ben", "dan", "nobody"] {
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
    assert_eq!(told(&world, "g", "ann").await[2..], ["ann: left ben MEMBER"]);
}

#[tokio::test]
async fn the_last_member_may_leave_and_nobody_sees_a_group_without_members() {
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
    assert_eq!(told(&world, "news", "ann").await, ["ann: joined ann OWNER", "ann: left ann OWNER"]);
    // An empty channel can be joined again, though nobody owns it.
    world.add("news", "ann", &["ann"], MemberRole::Member).await.unwrap();
    assert_eq!(who(&world, "news", "ann").await, [("ann".to_owned(), MemberRole::Member)]);
}
