use std::time::Duration;

use parlance::message::v1::SubscribeStart;
use tonic::Code;

use super::{ben_from_now, is_leave_of, sequences, subscribe};
use crate::support::{Inbox, Received, World, channel, group, refused};

#[tokio::test]
async fn leaving_or_removal_closes_one_conversation_and_the_others_continue() {
    let world = World::with_group().await;
    let replica = world.replica().await;
    world.create(group("h", "ann", &["ben"])).await;
    world.create(channel("c", "ann", &["ben"])).await;
    let mut here = ben_from_now(&world).await;
    let mut there = Inbox::subscribe(&replica.messages(), "ben", &[], SubscribeStart::Now).await.unwrap();
    there.catch_up().await;

    world.remove("g", "ann", "ben").await.unwrap();
    world.send("g", "ann", "behind your back").await;
    for inbox in [&mut here, &mut there] {
        let event = inbox.event().await;
        assert!(event.conversation_id == "g" && is_leave_of(&event, "ben"), "{event:?}");
        let (conversation, status) = inbox.closed().await;
        assert_eq!(conversation, "g");
        refused::<()>(Err(status), Code::PermissionDenied, "NOT_A_MEMBER");
    }
    // A channel may be read without membership, but not subscribed to.
    world.remove("c", "ben", "ben").await.unwrap();
    world.send("h", "ann", "still here").await;
    for inbox in [&mut here, &mut there] {
        let event_of_h =
            |received: &Received| matches!(received, Received::Event(event) if event.conversation_id == "h");
        let mut received = inbox.until(event_of_h).await;
        if !received.iter().any(|received| matches!(received, Received::Closed(_))) {
            received.extend(inbox.until(|received| matches!(received, Received::Closed(_))).await);
        }
        assert_eq!(
            (sequences(&received, "g"), sequences(&received, "h"), sequences(&received, "c")),
            (vec![], vec![3], vec![3])
        );
        inbox.is_silent_for(Duration::from_millis(300)).await;
    }
}

#[tokio::test]
async fn another_member_leaving_does_not_end_the_stream() {
    let world = World::with_group().await;
    let mut inbox = subscribe(&world, "ann", &[], SubscribeStart::Now).await.unwrap();
    inbox.catch_up().await;
    world.remove("g", "ben", "ben").await.unwrap();
    assert!(is_leave_of(&inbox.event().await, "ben"));
    world.send("g", "ann", "alone").await;
    assert_eq!(inbox.event().await.sequence, 4);
}

#[tokio::test]
async fn a_drain_ends_the_stream_and_it_resumes_at_another_replica() {
    let world = World::with_group().await;
    world.create(group("h", "ann", &["ben"])).await;
    let replica = world.replica().await;
    let mut inbox = Inbox::subscribe(&replica.messages(), "ben", &[], SubscribeStart::Beginning).await.unwrap();
    inbox.catch_up().await;
    replica.begin_stop();
    let (received, status) = inbox.end().await;
    assert_eq!(received, [Received::Draining]);
    refused::<()>(Err(status), Code::Unavailable, "DRAINING");
    world.send("h", "ann", "meanwhile").await;
    let cursors: Vec<(&str, i64)> = inbox.positions.iter().map(|(id, last)| (&**id, *last)).collect();
    let mut inbox = subscribe(&world, "ben", &cursors, SubscribeStart::ReadMark).await.unwrap();
    let received = inbox.catch_up().await;
    assert_eq!((sequences(&received, "g"), sequences(&received, "h")), (vec![], vec![3]));
}
