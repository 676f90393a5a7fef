use parlance::message::v1::{Cursor, MarkReadRequest, MemberRole, SubscribeRequest, SubscribeStart};
use tonic::Code;

use super::{sequences, subscribe};
use crate::support::{Received, World, channel, group, metadata, refused, to_status, violated_fields};

/// Ben is in `g` (2 joins, 3 messages, read up to 4) and `h` (2 joins, 2 messages).
async fn world() -> World {
    let world = World::with_group().await;
    world.create(group("h", "ann", &["ben"])).await;
    for text in ["one", "two", "three"] {
        world.send("g", "ann", text).await;
    }
    for text in ["four", "five"] {
        world.send("h", "ann", text).await;
    }
    let mark = MarkReadRequest { conversation_id: "g".to_owned(), actor_id: "ben".to_owned(), sequence: 4 };
    world.conversations().mark_read(mark).await.unwrap();
    world
}

type Cursors = &'static [(&'static str, i64)];

fn marks(received: &[Received]) -> Vec<(String, i64)> {
    let marks = received.iter().filter_map(|received| match received {
        Received::CaughtUp(mark) => Some((mark.conversation_id.clone(), mark.sequence)),
        _ => None,
    });
    let mut marks: Vec<_> = marks.collect();
    assert_eq!(marks.pop(), Some((String::new(), 0)), "the response for all conversations is the last");
    marks.sort();
    marks
}

#[tokio::test]
async fn each_conversation_starts_where_requested() {
    let world = world().await;
    let both = |g: i64, h: i64| vec![("g".to_owned(), g), ("h".to_owned(), h)];
    let cases: [(Cursors, _, &[i64], &[i64]); 6] = [
        // The read mark of a new member is its join.
        (&[], SubscribeStart::Unspecified, &[5], &[3, 4]),
        (&[], SubscribeStart::ReadMark, &[5], &[3, 4]),
        (&[], SubscribeStart::Now, &[], &[]),
        (&[], SubscribeStart::Beginning, &[1, 2, 3, 4, 5], &[1, 2, 3, 4]),
        (&[("g", 2)], SubscribeStart::Now, &[3, 4, 5], &[]),
        (&[("g", 5), ("h", 0)], SubscribeStart::Beginning, &[], &[1, 2, 3, 4]),
    ];
    for (cursors, start, g, h) in cases {
        let mut inbox = subscribe(&world, "ben", cursors, start).await.unwrap();
        let received = inbox.catch_up().await;
        assert_eq!(
            (sequences(&received, "g"), sequences(&received, "h")),
            (g.to_vec(), h.to_vec()),
            "{cursors:?} {start:?}"
        );
        assert_eq!(marks(&received), both(5, 4));
    }
}

#[tokio::test]
async fn after_catch_up_every_conversation_is_live() {
    let world = world().await;
    let mut inbox = super::ben_from_now(&world).await;
    for (conversation, sequence) in [("h", 5), ("g", 6), ("h", 6)] {
        world.send(conversation, "ann", "more").await;
        let event = inbox.event().await;
        assert_eq!((&*event.conversation_id, event.sequence), (conversation, sequence));
    }
}

#[tokio::test]
async fn a_user_without_conversations_is_caught_up_at_once() {
    let world = world().await;
    let mut inbox = subscribe(&world, "dan", &[], SubscribeStart::Beginning).await.unwrap();
    assert_eq!(marks(&inbox.catch_up().await), []);
}

#[tokio::test]
async fn an_unusable_cursor_closes_only_its_conversation() {
    let world = world().await;
    world.create(channel("c", "ann", &[])).await;
    world.create(group("secret", "ann", &[])).await;
    let cursors = [("g", 6), ("h", 4), ("nowhere", 0), ("secret", 1), ("c", 0)];
    let mut inbox = subscribe(&world, "ben", &cursors, SubscribeStart::Now).await.unwrap();
    let mut closed = std::collections::BTreeMap::new();
    for received in inbox.catch_up().await {
        if let Received::Closed(end) = received {
            closed.insert(end.conversation_id, to_status(end.status));
        }
    }
    assert_eq!(closed.keys().collect::<Vec<_>>(), ["c", "g", "nowhere", "secret"]);
    let ahead = refused::<()>(Err(closed["g"].clone()), Code::FailedPrecondition, "SEQUENCE_AHEAD");
    assert_eq!((metadata(&ahead, "conversation_id"), metadata(&ahead, "last_sequence")), ("g".into(), "5".into()));
    for unknown in ["nowhere", "secret"] {
        refused::<()>(Err(closed[unknown].clone()), Code::NotFound, "CONVERSATION_NOT_FOUND");
    }
    refused::<()>(Err(closed["c"].clone()), Code::PermissionDenied, "NOT_A_MEMBER");
    world.send("h", "ann", "more").await;
    assert_eq!(inbox.event().await.sequence, 5);
}

#[tokio::test]
async fn a_late_notification_of_an_old_join_reopens_nothing() {
    let world = world().await;
    let mut inbox = subscribe(&world, "ben", &[("g", 6)], SubscribeStart::Now).await.unwrap();
    inbox.catch_up().await;
    // Ben was a member all the time; this is the notification of a replica that reads commits from before he
    // subscribed.
    let again = "
        INSERT INTO parlance_message.outbox (conversation_ids, last_sequences, user_ids, created_at)
        VALUES ('{g}', '{5}', '{ben}', now())";
    sqlx::raw_sql(again).execute(&mut world.database.connect().await).await.unwrap();
    world.create(group("i", "ann", &["ben"])).await;
    assert_eq!(inbox.event().await.conversation_id, "i");
    world.send("g", "ann", "more").await;
    let received = inbox.until(|received| matches!(received, Received::Event(event) if event.conversation_id == "g"));
    assert!(tokio::time::timeout(std::time::Duration::from_secs(1), received).await.is_err());
    // Joining again is a different case.
    world.remove("g", "ann", "ben").await.unwrap();
    world.add("g", "ann", &["ben"], MemberRole::Member).await.unwrap();
    loop {
        let event = inbox.event().await;
        if event.conversation_id == "g" {
            assert_eq!(event.sequence, 8);
            break;
        }
    }
}

#[tokio::test]
async fn all_violations_are_reported_at_once() {
    let world = world().await;
    let cursor = |id: &str, after_sequence| Cursor { conversation_id: id.to_owned(), after_sequence };
    let ask = async |cursors, start| {
        let request = SubscribeRequest { actor_id: "ben".to_owned(), cursors, start, ..Default::default() };
        world.messages().subscribe(request).await
    };
    let bad = vec![cursor("g", 0), cursor("no spaces", 0), cursor("h", -1), cursor("g", 1)];
    let status = refused(ask(bad, 9).await, Code::InvalidArgument, "INVALID_ARGUMENT");
    let fields = ["cursors[1].conversation_id", "cursors[2].after_sequence", "cursors[3].conversation_id", "start"];
    assert_eq!(violated_fields(&status), fields);

    let many = |count: usize| (0..count).map(|n| cursor(&format!("c{n}"), 0)).collect::<Vec<_>>();
    let status = refused(ask(many(10_001), 0).await, Code::InvalidArgument, "INVALID_ARGUMENT");
    assert_eq!(violated_fields(&status), ["cursors"]);
    assert!(ask(many(10_000), 0).await.is_ok());
}

#[tokio::test]
async fn only_an_active_user_may_subscribe() {
    let world = world().await;
    world.deactivate("cat").await;
    world.delete_user("dan").await;
    let ask = async |user: &str| subscribe(&world, user, &[], SubscribeStart::Now).await;
    refused(ask("missing").await, Code::NotFound, "USER_NOT_FOUND");
    refused(ask("cat").await, Code::FailedPrecondition, "USER_DEACTIVATED");
    refused(ask("dan").await, Code::FailedPrecondition, "USER_DELETED");
    let status = refused(ask("~x").await, Code::InvalidArgument, "INVALID_ARGUMENT");
    assert_eq!(violated_fields(&status), ["actor_id"]);
}
