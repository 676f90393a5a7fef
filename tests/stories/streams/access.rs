//! Access ends with the log: a member's own `member_left` is the last entry it receives; channels continue.

use parlance::message::v1::{MemberRole, event::Kind};
use tonic::Code;

use super::follow;
use crate::support::{Reader, World, channel, metadata, refused};

#[tokio::test]
async fn a_removed_member_receives_the_removal_and_nothing_after_it() {
    let world = World::with_group().await;
    let mut removed = follow(&world, "ben", Some(0)).await.unwrap();
    let mut stays = follow(&world, "ann", Some(0)).await.unwrap();
    let sends = async {
        for n in 0..60 {
            world.send("g", "ann", &format!("message {n}")).await;
        }
    };
    let remove = async {
        while removed.event().await.sequence < 20 {}
        world.remove("g", "ann", "ben").await.unwrap();
    };
    tokio::join!(sends, remove);

    let (events, status) = removed.end().await;
    let last = events.last().unwrap();
    assert!(matches!(&last.kind, Some(Kind::MemberLeft(change)) if change.user_id == "ben"), "{last:?}");
    let status = refused::<()>(Err(status), Code::PermissionDenied, "NOT_A_MEMBER");
    assert_eq!((metadata(&status, "conversation_id"), metadata(&status, "user_id")), ("g".into(), "ben".into()));
    stays.up_to(63).await;
}

#[tokio::test]
async fn a_member_who_leaves_receives_the_same_end() {
    let world = World::with_group().await;
    let mut reader = follow(&world, "ben", None).await.unwrap();
    reader.catch_up().await;
    world.remove("g", "ben", "ben").await.unwrap();
    world.send("g", "ann", "behind your back").await;
    let (events, status) = reader.end().await;
    assert_eq!(events.len(), 1);
    refused::<()>(Err(status), Code::PermissionDenied, "NOT_A_MEMBER");
}

#[tokio::test]
async fn an_old_leave_in_the_log_does_not_end_the_stream() {
    let world = World::with_group().await;
    for _ in 0..3 {
        world.remove("g", "ben", "ben").await.unwrap();
        world.add("g", "ann", &["ben"], MemberRole::Member).await.unwrap();
    }
    let mut reader = follow(&world, "ben", Some(0)).await.unwrap();
    assert_eq!(reader.catch_up().await.0.len(), 8);
    world.send("g", "ann", "live").await;
    assert_eq!(reader.event().await.sequence, 9);
    // A later one does.
    world.remove("g", "ann", "ben").await.unwrap();
    let (events, status) = reader.end().await;
    assert_eq!(events.len(), 1);
    refused::<()>(Err(status), Code::PermissionDenied, "NOT_A_MEMBER");
}

#[tokio::test]
async fn a_member_removed_and_readded_during_catch_up_reads_up_to_the_leave() {
    let world = World::with_group().await;
    let mut reader = follow(&world, "ben", None).await.unwrap();
    reader.catch_up().await;
    world.remove("g", "ann", "ben").await.unwrap();
    world.add("g", "ann", &["ben"], MemberRole::Member).await.unwrap();
    let (events, status) = reader.end().await;
    assert_eq!(events.len(), 1);
    refused::<()>(Err(status), Code::PermissionDenied, "NOT_A_MEMBER");
    // A new stream resumes from its last sequence.
    let mut again = follow(&world, "ben", Some(3)).await.unwrap();
    assert_eq!(again.catch_up().await.0.len(), 1);
}

#[tokio::test]
async fn another_member_leaving_does_not_end_the_stream() {
    let world = World::with_group().await;
    world.add("g", "ann", &["cat"], MemberRole::Member).await.unwrap();
    let mut reader = follow(&world, "ben", Some(0)).await.unwrap();
    world.remove("g", "ann", "cat").await.unwrap();
    world.send("g", "ann", "x").await;
    assert_eq!(reader.up_to(5).await.len(), 5);
}

#[tokio::test]
async fn a_channel_stream_needs_no_membership_and_outlives_it() {
    let world = World::with_group().await;
    world.create(channel("news", "ann", &["ben"])).await;
    let mut stranger = Reader::open(&world.messages(), "news", "cat", Some(0)).await.unwrap();
    let mut leaver = Reader::open(&world.messages(), "news", "ben", Some(0)).await.unwrap();
    assert_eq!((stranger.catch_up().await.1, leaver.catch_up().await.1), (2, 2));
    world.remove("news", "ben", "ben").await.unwrap();
    world.send("news", "ann", "after you left").await;
    for reader in [&mut stranger, &mut leaver] {
        assert_eq!(reader.up_to(4).await.len(), 2);
    }
}
