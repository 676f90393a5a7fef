//! DIRECT conversations: one for each pair, whichever user creates it, and immutable.

use futures_util::future::join_all;
use parlance::message::v1::{
    Conversation, ConversationKind, CreateConversationRequest, MemberRole, UpdateConversationRequest,
};
use tonic::Code;

use super::{log_summary, roles_by_user, set_role};
use crate::support::{World, direct, metadata, preconditions, refused, strings, violated_fields};

#[tokio::test]
async fn either_user_of_a_pair_gets_the_same_conversation() {
    let world = World::with_group().await;
    let made = world.create(direct("ben", "ann")).await;
    assert!(made.conversation_id.starts_with("~d") && made.conversation_id.len() <= 64, "{}", made.conversation_id);
    assert_eq!((made.kind(), &*made.title, &*made.creator_id), (ConversationKind::Direct, "", "ben"));
    assert_eq!(world.create(direct("ann", "ben")).await, made);
    let with_id = CreateConversationRequest { request_id: "r".to_owned(), ..direct("ann", "ben") };
    assert_eq!(world.create(with_id.clone()).await, made);
    assert_eq!(world.create(with_id).await, made);
    assert_ne!(world.create(direct("ann", "cat")).await.conversation_id, made.conversation_id);

    let both = ["ann", "ben"].map(|name| (name.to_owned(), MemberRole::Member));
    assert_eq!(roles_by_user(&world, &made.conversation_id, "ann").await, both);
    let log = log_summary(&world, &made.conversation_id, "ann").await;
    assert_eq!(log, ["ben: joined ben MEMBER", "ben: joined ann MEMBER"]);
}

#[tokio::test]
async fn eight_concurrent_creators_get_one_conversation() {
    let world = World::with_group().await;
    for (one, other) in [("ann", "ben"), ("cat", "dan"), ("ann", "dan")] {
        let asked = (0..8).map(|n| if n % 2 == 0 { direct(one, other) } else { direct(other, one) });
        let made: Vec<Conversation> = join_all(asked.map(|asked| world.create(asked))).await;
        assert!(made.iter().all(|conversation| *conversation == made[0]), "{made:?}");
        assert_eq!(world.log(&made[0].conversation_id, one).await.len(), 2);
    }
}

#[tokio::test]
async fn a_direct_conversation_takes_exactly_one_other_user_and_neither_id_nor_title() {
    let world = World::with_group().await;
    let others = |ids: &[&str]| CreateConversationRequest { member_ids: strings(ids), ..direct("ann", "ben") };
    // Duplicates of the other user and the creator count once.
    world.create(others(&["ben", "ann", "ben"])).await;
    for (field, bad) in [
        ("conversation_id", CreateConversationRequest { conversation_id: "x".to_owned(), ..direct("ann", "ben") }),
        ("title", CreateConversationRequest { title: "x".to_owned(), ..direct("ann", "ben") }),
        ("member_ids", others(&[])),
        ("member_ids", others(&["ann"])),
        ("member_ids", others(&["ben", "cat"])),
    ] {
        let answer = world.conversations().create_conversation(bad).await;
        assert_eq!(violated_fields(&refused(answer, Code::InvalidArgument, "INVALID_ARGUMENT")), [field]);
    }
}

#[tokio::test]
async fn title_members_and_roles_of_a_direct_conversation_never_change() {
    let world = World::with_group().await;
    let id = world.create(direct("ann", "ben")).await.conversation_id;
    let conversation = Conversation { conversation_id: id.clone(), title: "x".to_owned(), ..Default::default() };
    let title =
        UpdateConversationRequest { conversation: Some(conversation), update_mask: None, actor_id: "ann".to_owned() };
    for answer in [
        world.conversations().update_conversation(title).await.map(drop),
        world.add(&id, "ann", &["cat"], MemberRole::Member).await.map(drop),
        world.remove(&id, "ann", "ben").await,
        world.remove(&id, "ann", "ann").await,
        set_role(&world, &id, "ann", "ben", MemberRole::Owner).await.map(drop),
    ] {
        let status = refused(answer, Code::FailedPrecondition, "CONVERSATION_IS_DIRECT");
        assert_eq!((metadata(&status, "conversation_id"), preconditions(&status)), (id.clone(), vec![id.clone()]));
    }
    assert_eq!(world.log(&id, "ben").await.len(), 2);
    assert_eq!(world.send(&id, "ben", "hello").await.sequence, 3);
}
