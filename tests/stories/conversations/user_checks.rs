//! Users named in a request: unknown, deactivated, deleted, as actor or as member; all reported at once.

use parlance::message::v1::MemberRole;
use tonic::{Code, Status};

use super::all_rpcs::{acts, reads};
use crate::support::{World, channel, group, metadata, preconditions, refused, resource};

async fn world() -> World {
    let world = World::new().await;
    world.users(&["ann", "ben", "cat", "dan", "off1", "off2", "gone1"]).await;
    for name in ["off1", "off2"] {
        world.deactivate(name).await;
    }
    world.delete_user("gone1").await;
    world.create(group("g", "ann", &["ben"])).await;
    world
}

fn user_ids(status: &Status) -> Vec<String> {
    metadata(status, "user_ids").split(',').map(|id| id.trim().to_owned()).collect()
}

#[tokio::test]
async fn creators_and_members_must_be_active() {
    let world = world().await;
    for (creator, members, code, reason, ids) in [
        ("missing", vec![], Code::NotFound, "USER_NOT_FOUND", vec!["missing"]),
        ("ann", vec!["x1", "ben", "x2"], Code::NotFound, "USER_NOT_FOUND", vec!["x1", "x2"]),
        ("ann", vec!["off1", "x1"], Code::NotFound, "USER_NOT_FOUND", vec!["x1"]),
        ("off1", vec![], Code::FailedPrecondition, "USER_DEACTIVATED", vec!["off1"]),
        ("ann", vec!["off2", "ben", "off1"], Code::FailedPrecondition, "USER_DEACTIVATED", vec!["off2", "off1"]),
        ("ann", vec!["gone1"], Code::FailedPrecondition, "USER_DELETED", vec!["gone1"]),
        ("gone1", vec!["ann"], Code::FailedPrecondition, "USER_DELETED", vec!["gone1"]),
    ] {
        let answer = world.conversations().create_conversation(group("new", creator, &members)).await;
        let status = refused(answer, code, reason);
        assert_eq!(user_ids(&status), ids);
        match code {
            Code::NotFound => assert_eq!(resource(&status), ("parlance.user.v1.User".to_owned(), ids.join(","))),
            _ => assert_eq!(preconditions(&status), [ids.join(",")]),
        }
    }
    // Nothing was created, so the id is free.
    world.create(group("new", "ann", &[])).await;
}

#[tokio::test]
async fn every_rpc_requires_an_active_actor() {
    let world = world().await;
    for (actor, code, reason) in [
        ("missing", Code::NotFound, "USER_NOT_FOUND"),
        ("off1", Code::FailedPrecondition, "USER_DEACTIVATED"),
        ("gone1", Code::FailedPrecondition, "USER_DELETED"),
    ] {
        for (name, answer) in reads(&world, "g", actor, 0).await.into_iter().chain(acts(&world, "g", actor, 1).await) {
            let status = refused(answer, code, reason);
            assert_eq!(user_ids(&status), [actor], "{name}");
        }
    }
    assert_eq!(world.log("g", "ann").await.len(), 2);
}

#[tokio::test]
async fn a_deactivated_member_cannot_act_and_can_be_removed() {
    let world = World::with_group().await;
    world.deactivate("ben").await;
    // The cached answer about Ben may be a little old; see the story about the cache TTL.
    world.remove("g", "ann", "ben").await.unwrap();
    assert_eq!(super::roles_by_user(&world, "g", "ann").await, [("ann".to_owned(), MemberRole::Owner)]);
}

#[tokio::test]
async fn one_inactive_user_fails_the_whole_addition() {
    let world = world().await;
    for (added, code, reason, ids) in [
        (["cat", "x1"], Code::NotFound, "USER_NOT_FOUND", vec!["x1"]),
        (["off1", "cat"], Code::FailedPrecondition, "USER_DEACTIVATED", vec!["off1"]),
        (["cat", "gone1"], Code::FailedPrecondition, "USER_DELETED", vec!["gone1"]),
    ] {
        let status = refused(world.add("g", "ann", &added, MemberRole::Member).await, code, reason);
        assert_eq!(user_ids(&status), ids);
    }
    assert_eq!(super::roles_by_user(&world, "g", "ann").await.len(), 2);
    assert_eq!(world.log("g", "ann").await.len(), 2);
}

#[tokio::test]
async fn only_active_users_may_join_a_channel() {
    let world = world().await;
    world.create(channel("news", "ann", &[])).await;
    let join = async |user: &str| world.add("news", user, &[user], MemberRole::Member).await;
    refused(join("off1").await, Code::FailedPrecondition, "USER_DEACTIVATED");
    refused(join("missing").await, Code::NotFound, "USER_NOT_FOUND");
    assert_eq!(join("cat").await.unwrap()[0].user_id, "cat");
}
