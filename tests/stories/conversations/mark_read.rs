//! Read marks: a high-water mark for each member, and unread counts.

use parlance::message::v1::{DeleteMessageRequest, MarkReadRequest, Member, MemberRole};
use tonic::{Code, Status};

use crate::support::{World, refused, violated_fields};

async fn mark(world: &World, actor_id: &str, sequence: i64) -> Result<Member, Status> {
    let request = MarkReadRequest { conversation_id: "g".to_owned(), actor_id: actor_id.to_owned(), sequence };
    Ok(world.conversations().mark_read(request).await?.into_inner())
}

/// Read mark and unread count of one member, from the list of members.
async fn state(world: &World, user_id: &str) -> (i64, i64) {
    let members = world.members("g", user_id).await;
    let member = members.iter().find(|member| member.user_id == user_id).unwrap();
    (member.last_read_sequence, member.unread_count)
}

#[tokio::test]
async fn messages_of_others_are_unread_until_the_read_mark_passes_them() {
    let world = World::with_group().await;
    // Sequences 3 to 7: three messages of Ann, one of Ben, and a join in between.
    world.send("g", "ann", "1").await;
    world.send("g", "ann", "2").await;
    assert_eq!(state(&world, "ben").await.1, 2);
    assert_eq!(state(&world, "ann").await, (4, 0));
    world.add("g", "ann", &["cat"], MemberRole::Member).await.unwrap();
    world.send("g", "ann", "3").await;
    assert_eq!((state(&world, "ben").await.1, state(&world, "cat").await), (3, (5, 1)));

    let marked = mark(&world, "ben", 3).await.unwrap();
    assert_eq!((&*marked.user_id, marked.last_read_sequence, marked.unread_count), ("ben", 3, 2));
    // The sequence of any entry is accepted, not only of a message.
    assert_eq!(mark(&world, "ben", 5).await.unwrap().unread_count, 1);
    // A send, such as one from a queue, does not mark as read what its sender has not seen.
    world.send("g", "ben", "mine").await;
    assert_eq!((state(&world, "ben").await, state(&world, "cat").await.1), ((5, 2), 2));
    assert_eq!(mark(&world, "ben", 7).await.unwrap().unread_count, 0);
    // With nothing unread before it, the own message is read.
    world.send("g", "ben", "and more").await;
    assert_eq!(state(&world, "ben").await, (8, 0));
}

#[tokio::test]
async fn a_read_mark_never_moves_back_nor_beyond_the_head() {
    let world = World::with_group().await;
    for n in 0..3 {
        world.send("g", "ann", &n.to_string()).await;
    }
    assert_eq!(mark(&world, "ben", 4).await.unwrap().last_read_sequence, 4);
    for lower in [0, 1, 4] {
        let marked = mark(&world, "ben", lower).await.unwrap();
        assert_eq!((marked.last_read_sequence, marked.unread_count), (4, 1));
    }
    let marked = mark(&world, "ben", i64::MAX).await.unwrap();
    assert_eq!((marked.last_read_sequence, marked.unread_count), (5, 0));
    // Clamped to the current head: later messages are unread.
    world.send("g", "ann", "later").await;
    assert_eq!(state(&world, "ben").await, (5, 1));
    assert_eq!(world.log("g", "ann").await.len(), 6, "a mark is no entry");
}

#[tokio::test]
async fn a_deleted_message_counts_as_unread_until_the_mark_passes_it() {
    let world = World::with_group().await;
    let sequence = world.send("g", "ann", "oops").await.sequence;
    let delete = DeleteMessageRequest { conversation_id: "g".to_owned(), actor_id: "ann".to_owned(), sequence };
    world.messages().delete_message(delete).await.unwrap();
    assert_eq!(state(&world, "ben").await.1, 1);
    assert_eq!(mark(&world, "ben", 4).await.unwrap().unread_count, 0);
    assert_eq!(world.conversation("g", "ann").await.unwrap().message_count, 1);
}

#[tokio::test]
async fn negative_read_marks_are_refused() {
    let world = World::with_group().await;
    let status = refused(mark(&world, "ben", -1).await, Code::InvalidArgument, "INVALID_ARGUMENT");
    assert_eq!(violated_fields(&status), ["sequence"]);
}

#[tokio::test]
async fn concurrent_read_marks_end_at_the_highest() {
    let world = World::with_group().await;
    for n in 0..20 {
        world.send("g", "ann", &n.to_string()).await;
    }
    let marks = futures_util::future::join_all((3..=22).rev().map(|sequence| mark(&world, "ben", sequence))).await;
    assert!(marks.iter().all(Result::is_ok));
    assert_eq!(state(&world, "ben").await, (22, 0));
}
