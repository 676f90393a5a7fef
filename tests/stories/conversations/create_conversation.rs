//! `CreateConversation` of groups and channels: bounds, idempotency, races. DIRECT conversations have their own file.

use futures_util::future::join_all;
use parlance::message::v1::{Conversation, ConversationKind, CreateConversationRequest, MemberRole};
use tonic::{Code, Status};

use super::{log_summary, roles_by_user};
use crate::support::{World, channel, group, metadata, refused, resource, strings, violated_fields};

async fn create(world: &World, request: &CreateConversationRequest) -> Result<Conversation, Status> {
    Ok(world.conversations().create_conversation(request.clone()).await?.into_inner())
}

#[tokio::test]
async fn a_group_starts_with_its_creator_as_owner_and_one_entry_per_member() {
    let world = World::new().await;
    world.users(&["ann", "ben", "cat"]).await;
    // Duplicates, and the creator among the members, count once.
    let asked = CreateConversationRequest {
        title: "Günther & friends".to_owned(),
        ..group("order-1.A_b~c", "ann", &["cat", "ben", "ann", "cat"])
    };
    let made = create(&world, &asked).await.unwrap();
    assert_eq!(
        (&*made.conversation_id, &*made.title, &*made.creator_id),
        ("order-1.A_b~c", "Günther & friends", "ann")
    );
    assert_eq!((made.kind(), made.last_sequence, made.message_count), (ConversationKind::Group, 3, 0));
    assert!(made.create_time.is_some() && made.create_time == made.update_time && made.last_message_time.is_none());
    assert!(made.etag.len() > 2 && made.etag.starts_with('"') && made.etag.ends_with('"'));
    assert_eq!(world.conversation("order-1.A_b~c", "ben").await.unwrap(), made);

    let log = log_summary(&world, "order-1.A_b~c", "ann").await;
    assert_eq!(log, ["ann: joined ann OWNER", "ann: joined cat MEMBER", "ann: joined ben MEMBER"]);
    let members = [("ann", MemberRole::Owner), ("ben", MemberRole::Member), ("cat", MemberRole::Member)];
    assert_eq!(
        roles_by_user(&world, "order-1.A_b~c", "cat").await,
        members.map(|(name, role)| (name.to_owned(), role))
    );
}

#[tokio::test]
async fn without_an_id_the_service_assigns_a_uuid_v7() {
    let world = World::new().await;
    world.users(&["ann"]).await;
    let first = create(&world, &group("", "ann", &[])).await.unwrap();
    let second = create(&world, &channel("", "ann", &[])).await.unwrap();
    assert_eq!((first.conversation_id.len(), first.conversation_id.as_bytes()[14]), (36, b'7'));
    assert!(first.conversation_id < second.conversation_id);
    assert_eq!(second.kind(), ConversationKind::Channel);
}

#[tokio::test]
async fn values_at_their_bounds_are_accepted_and_beyond_them_refused() {
    let world = World::new().await;
    world.users(&["ann"]).await;
    let id = "i".repeat(64);
    let edge =
        CreateConversationRequest { title: "😀".repeat(256), request_id: "r".repeat(64), ..group(&id, "ann", &[]) };
    create(&world, &edge).await.unwrap();

    let ok = group("ok", "ann", &[]);
    for (field, bad) in [
        ("conversation_id", group(&"i".repeat(65), "ann", &[])),
        ("conversation_id", group("~x", "ann", &[])),
        ("conversation_id", group("a b", "ann", &[])),
        ("conversation_id", group("a\0", "ann", &[])),
        ("kind", CreateConversationRequest { kind: 0, ..ok.clone() }),
        ("kind", CreateConversationRequest { kind: 4, ..ok.clone() }),
        ("title", CreateConversationRequest { title: "😀".repeat(257), ..ok.clone() }),
        ("title", CreateConversationRequest { title: "a\0".to_owned(), ..ok.clone() }),
        ("creator_id", group("ok", "", &[])),
        ("creator_id", group("ok", "a b", &[])),
        ("member_ids[1]", group("ok", "ann", &["ann", "a b"])),
        ("request_id", CreateConversationRequest { request_id: "r".repeat(65), ..ok.clone() }),
        ("request_id", CreateConversationRequest { request_id: "é".to_owned(), ..ok.clone() }),
    ] {
        let status = refused(create(&world, &bad).await, Code::InvalidArgument, "INVALID_ARGUMENT");
        assert_eq!(violated_fields(&status), [field]);
    }
    let bad = CreateConversationRequest { kind: 0, title: "x".repeat(257), ..group("~", "", &["~ "]) };
    let status = refused(create(&world, &bad).await, Code::InvalidArgument, "INVALID_ARGUMENT");
    assert_eq!(violated_fields(&status).len(), 5, "{status:?}");
}

#[tokio::test]
async fn a_thousand_members_are_accepted_and_one_more_is_refused() {
    let world = World::new().await;
    world.many_users(1002).await;
    let others = |count: usize| (1..=count).map(|n| format!("u{n}")).collect::<Vec<_>>();
    let many = CreateConversationRequest { member_ids: others(1001), ..group("many", "u0", &[]) };
    let status = refused(create(&world, &many).await, Code::InvalidArgument, "INVALID_ARGUMENT");
    assert_eq!(violated_fields(&status), ["member_ids"]);

    let many = CreateConversationRequest { member_ids: others(1000), ..many };
    assert_eq!(create(&world, &many).await.unwrap().last_sequence, 1001);
    assert_eq!(world.log("many", "u1000").await.len(), 1001);
}

#[tokio::test]
async fn a_taken_id_is_refused() {
    let world = World::with_group().await;
    for asked in [group("g", "ann", &["ben"]), channel("g", "dan", &[])] {
        let status = refused(create(&world, &asked).await, Code::AlreadyExists, "CONVERSATION_ID_TAKEN");
        assert_eq!(metadata(&status, "conversation_id"), "g");
        assert_eq!(resource(&status), ("parlance.message.v1.Conversation".to_owned(), "g".to_owned()));
    }
    // Ids are case-sensitive.
    create(&world, &group("G", "ann", &[])).await.unwrap();
}

#[tokio::test]
async fn a_retry_returns_the_current_conversation() {
    let world = World::with_group().await;
    for conversation_id in ["given", ""] {
        let request_id = format!("r{conversation_id}");
        let asked = CreateConversationRequest { request_id, ..group(conversation_id, "ann", &["ben", "cat"]) };
        let first = create(&world, &asked).await.unwrap();
        // Order, duplicates and the creator among the members do not make the content different.
        let same = CreateConversationRequest { member_ids: strings(&["cat", "ann", "ben", "ben"]), ..asked.clone() };
        assert_eq!(create(&world, &same).await.unwrap(), first);
        world.send(&first.conversation_id, "ben", "hello").await;
        assert_eq!(create(&world, &asked).await.unwrap().message_count, 1);
    }
}

#[tokio::test]
async fn a_request_id_with_different_content_is_refused_as_reused() {
    let world = World::with_group().await;
    let asked = CreateConversationRequest { request_id: "r".to_owned(), ..group("one", "ann", &["ben"]) };
    create(&world, &asked).await.unwrap();
    for other in [
        CreateConversationRequest { conversation_id: "two".to_owned(), ..asked.clone() },
        CreateConversationRequest { conversation_id: String::new(), ..asked.clone() },
        CreateConversationRequest { kind: ConversationKind::Channel.into(), ..asked.clone() },
        CreateConversationRequest { title: "other".to_owned(), ..asked.clone() },
        CreateConversationRequest { member_ids: strings(&["cat"]), ..asked.clone() },
        CreateConversationRequest { member_ids: vec![], ..asked.clone() },
    ] {
        let status = refused(create(&world, &other).await, Code::InvalidArgument, "REQUEST_ID_REUSED");
        assert_eq!(metadata(&status, "request_id"), "r");
    }
    // A request id is scoped to its creator.
    let of_ben = CreateConversationRequest { creator_id: "ben".to_owned(), conversation_id: "two".to_owned(), ..asked };
    assert_eq!(create(&world, &of_ben).await.unwrap().conversation_id, "two");
}

#[tokio::test]
async fn sixteen_concurrent_retries_create_one_conversation() {
    let world = World::with_group().await;
    for (round, conversation_id) in ["", "named", ""].into_iter().enumerate() {
        let request_id = format!("r{round}");
        let asked = CreateConversationRequest { request_id, ..group(conversation_id, "ann", &["ben"]) };
        let answers = join_all((0..16).map(|_| create(&world, &asked))).await;
        let first = answers[0].as_ref().unwrap();
        assert!(answers.iter().all(|answer| answer.as_ref().unwrap() == first), "{answers:?}");
        assert_eq!(world.log(&first.conversation_id, "ben").await.len(), 2);
    }
}

#[tokio::test]
async fn of_sixteen_concurrent_creations_of_one_id_one_succeeds() {
    let world = World::with_group().await;
    let names = ["ann", "ben", "cat", "dan"];
    let asked: Vec<_> = (0..16).map(|n| group("wanted", names[n % 4], &[])).collect();
    let answers = join_all(asked.iter().map(|asked| create(&world, asked))).await;
    let (made, taken): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!((made.len(), taken.len()), (1, 15));
    for answer in taken {
        refused(answer, Code::AlreadyExists, "CONVERSATION_ID_TAKEN");
    }
}
