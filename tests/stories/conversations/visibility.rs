//! Visibility for members, strangers, former members and readers of channels.

use tonic::{Code, Status};

use super::all_rpcs::{acts, reads};
use crate::support::{World, channel, direct, group, metadata, refused, resource};

/// Everything in a status by which a caller could distinguish two answers.
fn whole(status: &Status) -> (Code, String, Vec<u8>) {
    (status.code(), status.message().to_owned(), status.details().to_vec())
}

#[tokio::test]
async fn a_stranger_cannot_distinguish_a_group_from_a_missing_one() {
    let world = World::new().await;
    world.users(&["ann", "ben", "cat", "dan"]).await;
    let mut before = reads(&world, "g", "cat", 0).await;
    before.extend(acts(&world, "g", "cat", 0).await);

    world.create(group("g", "ann", &["ben"])).await;
    world.send("g", "ann", "secret").await;
    let mut after = reads(&world, "g", "cat", 0).await;
    after.extend(acts(&world, "g", "cat", 3).await);

    assert_eq!(before.len(), after.len());
    for ((name, unknown), (_, hidden)) in before.into_iter().zip(after) {
        let unknown = refused(unknown, Code::NotFound, "CONVERSATION_NOT_FOUND");
        let hidden = refused(hidden, Code::NotFound, "CONVERSATION_NOT_FOUND");
        assert_eq!(whole(&unknown), whole(&hidden), "{name}");
        assert_eq!(metadata(&hidden, "conversation_id"), "g", "{name}");
        assert_eq!(resource(&hidden), ("parlance.message.v1.Conversation".to_owned(), "g".to_owned()), "{name}");
    }
    assert_eq!(world.log("g", "ann").await.len(), 3);
}

#[tokio::test]
async fn a_stranger_cannot_see_a_direct_conversation_either() {
    let world = World::new().await;
    world.users(&["ann", "ben", "cat", "dan"]).await;
    let id = world.create(direct("ann", "ben")).await.conversation_id;
    for (name, answer) in reads(&world, &id, "cat", 0).await.into_iter().chain(acts(&world, &id, "cat", 1).await) {
        let status = refused(answer, Code::NotFound, "CONVERSATION_NOT_FOUND");
        assert_eq!(metadata(&status, "conversation_id"), id, "{name}");
    }
}

#[tokio::test]
async fn a_former_member_is_a_stranger_and_a_new_member_sees_the_whole_log() {
    let world = World::with_group().await;
    world.send("g", "ann", "early").await;
    world.remove("g", "ben", "ben").await.unwrap();
    for (_, answer) in reads(&world, "g", "ben", 0).await.into_iter().chain(acts(&world, "g", "ben", 3).await) {
        refused(answer, Code::NotFound, "CONVERSATION_NOT_FOUND");
    }
    world.add("g", "ann", &["cat"], parlance::message::v1::MemberRole::Member).await.unwrap();
    for (name, answer) in reads(&world, "g", "cat", 3).await {
        assert!(answer.is_ok(), "{name}: {answer:?}");
    }
    assert_eq!(world.log("g", "cat").await.len(), 5);
}

#[tokio::test]
async fn any_active_user_reads_a_channel_and_only_members_write_to_it() {
    let world = World::new().await;
    world.users(&["ann", "ben", "cat", "dan", "gone"]).await;
    world.create(channel("news", "ann", &["ben"])).await;
    world.send("news", "ann", "hello").await;
    for (name, answer) in reads(&world, "news", "cat", 3).await {
        assert!(answer.is_ok(), "{name}: {answer:?}");
    }
    for (name, answer) in acts(&world, "news", "cat", 3).await {
        let status = refused(answer, Code::PermissionDenied, "NOT_A_MEMBER");
        let about = (metadata(&status, "conversation_id"), metadata(&status, "user_id"));
        assert_eq!(about, ("news".to_owned(), "cat".to_owned()), "{name}");
    }
    assert_eq!(world.log("news", "dan").await.len(), 3);

    // Reading requires an active user.
    world.deactivate("gone").await;
    for (_, answer) in reads(&world, "news", "gone", 0).await {
        refused(answer, Code::FailedPrecondition, "USER_DEACTIVATED");
    }
    for (_, answer) in reads(&world, "news", "missing", 0).await {
        refused(answer, Code::NotFound, "USER_NOT_FOUND");
    }
}
