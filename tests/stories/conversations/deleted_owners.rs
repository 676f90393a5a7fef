//! Where the accounts of all owners are deleted, a member succeeds them.

use parlance::message::v1::MemberRole;
use tonic::Code;

use super::{log_summary, roles_by_user, set_role};
use crate::support::{Mode, PATIENCE, World, channel, code_and_reason, eventually, group, refused};

/// Creates users and a group `g` of Ann with these members, in this order.
async fn prepare(world: &World, members: &[(&str, MemberRole)]) {
    world.users(&["ann", "ben", "cat", "dan", "eve"]).await;
    world.create(group("g", "ann", &[])).await;
    for (user, role) in members {
        world.add("g", "ann", &[user], *role).await.unwrap();
    }
}

/// Waits until message-service knows that an account is no longer active.
async fn wait_until_refused(world: &World, user_id: &str) {
    eventually(PATIENCE, || async {
        let read = world.conversation("g", user_id).await;
        if read.is_err() { Ok(()) } else { Err("still accepted") }
    })
    .await;
}

/// Returns the entries after the members have joined.
async fn changes(world: &World, actor_id: &str, joined: usize) -> Vec<String> {
    log_summary(world, "g", actor_id).await.split_off(joined)
}

#[tokio::test]
async fn the_longest_standing_admin_succeeds_and_acts_at_once() {
    let world = World::new().await;
    let members = [("dan", MemberRole::Member), ("cat", MemberRole::Admin), ("ben", MemberRole::Admin)];
    prepare(&world, &members).await;
    refused(set_role(&world, "g", "cat", "dan", MemberRole::Admin).await, Code::PermissionDenied, "ROLE_INSUFFICIENT");
    world.delete_user("ann").await;

    eventually(PATIENCE, || set_role(&world, "g", "cat", "dan", MemberRole::Admin)).await;
    let expected = ["cat: role cat OWNER", "cat: role ann MEMBER", "cat: role dan ADMIN"];
    assert_eq!(changes(&world, "cat", 4).await, expected);
    // Only once, and the other admin gained nothing.
    refused(set_role(&world, "g", "ben", "dan", MemberRole::Member).await, Code::PermissionDenied, "ROLE_INSUFFICIENT");
    refused(world.remove("g", "cat", "cat").await, Code::FailedPrecondition, "LAST_OWNER");
    world.remove("g", "cat", "ann").await.unwrap();
    assert_eq!(changes(&world, "cat", 7).await, ["cat: left ann MEMBER"]);
}

#[tokio::test]
async fn a_plain_member_succeeds_if_no_admin_is_active_even_when_another_member_called() {
    let world = World::new().await;
    let members = [("ben", MemberRole::Admin), ("cat", MemberRole::Member), ("dan", MemberRole::Member)];
    prepare(&world, &members).await;
    for user in ["ann", "ben"] {
        world.delete_user(user).await;
        wait_until_refused(&world, user).await;
    }
    // Cat was there before Dan.
    eventually(PATIENCE, || async {
        let answer = set_role(&world, "g", "dan", "dan", MemberRole::Admin).await;
        refused(answer, Code::PermissionDenied, "ROLE_INSUFFICIENT");
        let roles = roles_by_user(&world, "g", "dan").await;
        if roles.contains(&("cat".to_owned(), MemberRole::Owner)) { Ok(()) } else { Err(format!("{roles:?}")) }
    })
    .await;
    assert_eq!(changes(&world, "dan", 4).await, ["cat: role cat OWNER", "cat: role ann MEMBER"]);
}

#[tokio::test]
async fn whoever_joins_a_channel_that_all_have_left_may_manage_it() {
    let world = World::new().await;
    world.users(&["ann", "ben", "cat"]).await;
    world.create(channel("c", "ann", &[])).await;
    world.remove("c", "ann", "ann").await.unwrap();
    for user in ["ben", "cat"] {
        world.add("c", user, &[user], MemberRole::Member).await.unwrap();
    }
    // Ben was there first.
    refused(set_role(&world, "c", "cat", "ben", MemberRole::Admin).await, Code::PermissionDenied, "ROLE_INSUFFICIENT");
    set_role(&world, "c", "ben", "cat", MemberRole::Admin).await.unwrap();
    let log = log_summary(&world, "c", "ben").await.split_off(4);
    assert_eq!(log, ["ben: role ben OWNER", "ben: role cat ADMIN"]);
}

#[tokio::test]
async fn an_owner_who_is_active_or_deactivated_is_not_succeeded() {
    let world = World::new().await;
    prepare(&world, &[("ben", MemberRole::Owner), ("cat", MemberRole::Admin)]).await;
    world.delete_user("ann").await;
    world.deactivate("ben").await;
    wait_until_refused(&world, "ann").await;
    for _ in 0..3 {
        let answer = set_role(&world, "g", "cat", "cat", MemberRole::Owner).await;
        refused(answer, Code::PermissionDenied, "ROLE_INSUFFICIENT");
    }
    assert_eq!(changes(&world, "cat", 3).await, [""; 0]);
}

#[tokio::test]
async fn calls_at_two_replicas_at_once_make_one_owner() {
    let world = World::new().await;
    prepare(&world, &[]).await;
    let replica = world.replica().await;
    for round in 0..5 {
        let (owner, id) = (format!("owner{round}"), format!("c{round}"));
        world.users(&[&owner]).await;
        world.create(channel(&id, &owner, &["ben", "cat", "dan"])).await;
        world.delete_user(&owner).await;
        let calls = (0..8).map(|call| {
            let mut client = if call % 2 == 0 { world.conversations() } else { replica.conversations() };
            let actor_id = ["ben", "cat", "dan"][call % 3].to_owned();
            let request = parlance::message::v1::UpdateMemberRequest {
                conversation_id: id.clone(),
                actor_id,
                user_id: "dan".to_owned(),
                role: MemberRole::Admin.into(),
            };
            async move { client.update_member(request).await.map(drop) }
        });
        futures_util::future::join_all(calls).await;
        let done = eventually(PATIENCE, || set_role(&world, &id, "ben", "dan", MemberRole::Admin)).await;
        assert_eq!(done.role(), MemberRole::Admin);
        let log = log_summary(&world, &id, "ben").await.split_off(4);
        let demoted = format!("ben: role {owner} MEMBER");
        assert_eq!(log, ["ben: role ben OWNER", &demoted, "ben: role dan ADMIN"]);
    }
}

#[tokio::test]
async fn nothing_changes_while_user_service_is_down() {
    let (world, proxy) = World::with_proxied_user_service(&["--directory-fresh", "1ms"]).await;
    prepare(&world, &[("ben", MemberRole::Admin), ("cat", MemberRole::Member)]).await;
    // Ben is known, also after the news of his creation have arrived, which may be late.
    eventually(PATIENCE, || async {
        proxy.set(Mode::Open);
        let _ = set_role(&world, "g", "ben", "cat", MemberRole::Admin).await;
        proxy.set(Mode::Closed);
        let answer = set_role(&world, "g", "ben", "cat", MemberRole::Admin).await.unwrap_err();
        if code_and_reason(&answer).1 == "ROLE_INSUFFICIENT" { Ok(()) } else { Err(answer) }
    })
    .await;
    world.delete_user("ann").await;
    refused(set_role(&world, "g", "ben", "cat", MemberRole::Admin).await, Code::PermissionDenied, "ROLE_INSUFFICIENT");
    assert_eq!(changes(&world, "ben", 3).await, [""; 0]);
    proxy.set(Mode::Open);
    eventually(PATIENCE, || set_role(&world, "g", "ben", "cat", MemberRole::Admin)).await;
}
