use parlance::message::v1::{MemberRole, SubscribeStart};

use super::{ben_from_now, is_join_of, sequences, subscribe};
use crate::support::{Inbox, Received, World, channel, direct, group};

#[tokio::test]
async fn a_conversation_joined_later_starts_at_its_join_entry() {
    let world = World::with_group().await;
    world.create(group("h", "ann", &[])).await;
    world.send("h", "ann", "before").await;
    let mut inbox = ben_from_now(&world).await;

    world.add("h", "ann", &["cat", "ben"], MemberRole::Member).await.unwrap();
    world.send("h", "ann", "after").await;
    let received = inbox.until(|received| matches!(received, Received::Event(event) if event.sequence == 5)).await;
    assert_eq!(sequences(&received, "h"), [4, 5]);
    let Some(Received::Event(first)) = received.first() else { panic!("{received:?}") };
    assert!(is_join_of(first, "ben"), "{first:?}");

    world.create(group("i", "cat", &["dan", "ben"])).await;
    let event = inbox.event().await;
    assert!(event.conversation_id == "i" && event.sequence == 3 && is_join_of(&event, "ben"), "{event:?}");
    let made = world.create(direct("cat", "ben")).await;
    let event = inbox.event().await;
    assert!(event.conversation_id == made.conversation_id && is_join_of(&event, "ben"), "{event:?}");
}

#[tokio::test]
async fn a_conversation_joined_at_another_replica_appears() {
    let world = World::with_group().await;
    let replica = world.replica().await;
    world.create(group("h", "ann", &[])).await;
    let mut inbox = Inbox::subscribe(&replica.messages(), "ben", &[], SubscribeStart::Now).await.unwrap();
    inbox.catch_up().await;
    world.add("h", "ann", &["ben"], MemberRole::Member).await.unwrap();
    let event = inbox.event().await;
    assert!(event.conversation_id == "h" && event.sequence == 2 && is_join_of(&event, "ben"), "{event:?}");
    world.send("h", "ann", "hi").await;
    assert_eq!(inbox.event().await.sequence, 3);
    world.create(channel("c", "cat", &["ben"])).await;
    let event = inbox.event().await;
    assert!(event.conversation_id == "c" && is_join_of(&event, "ben"), "{event:?}");
}

#[tokio::test]
async fn a_user_without_conversations_is_notified_of_the_first_one_from_another_replica() {
    let world = World::with_group().await;
    let replica = world.replica().await;
    let mut inbox = Inbox::subscribe(&replica.messages(), "dan", &[], SubscribeStart::Now).await.unwrap();
    inbox.catch_up().await;
    world.add("g", "ann", &["dan"], MemberRole::Member).await.unwrap();
    let event = inbox.event().await;
    assert!(event.sequence == 3 && is_join_of(&event, "dan"), "{event:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_joined_during_the_start_is_not_missed() {
    const ROUNDS: usize = 40;
    let world = World::with_group().await;
    let replica = world.replica().await;
    for round in 0..ROUNDS {
        let id = format!("h{round}");
        world.create(group(&id, "ann", &[])).await;
        let at = if round % 2 == 0 { world.messages() } else { replica.messages() };
        let subscribing = Inbox::subscribe(&at, "ben", &[], SubscribeStart::Now);
        let adding = world.add(&id, "ann", &["ben"], MemberRole::Member);
        let (inbox, added) = tokio::join!(subscribing, adding);
        added.unwrap();
        let mut inbox = inbox.unwrap();
        // Caught up or joined live: later messages in it are delivered.
        world.send(&id, "ann", "hi").await;
        let received = inbox
            .until(|received| matches!(received, Received::Event(event) if event.conversation_id == id && event.sequence == 3))
            .await;
        let of_it = sequences(&received, &id);
        assert!(of_it == [3] || of_it == [2, 3], "{received:?}");
    }
}

#[tokio::test]
async fn a_member_added_again_starts_at_the_new_join() {
    let world = World::with_group().await;
    let replica = world.replica().await;
    let mut here = ben_from_now(&world).await;
    let mut there = Inbox::subscribe(&replica.messages(), "ben", &[], SubscribeStart::Now).await.unwrap();
    there.catch_up().await;
    for round in 0..3 {
        world.remove("g", "ann", "ben").await.unwrap();
        world.send("g", "ann", "behind your back").await;
        world.add("g", "ann", &["ben"], MemberRole::Member).await.unwrap();
        let joined_at = 2 + 3 * (round + 1);
        for inbox in [&mut here, &mut there] {
            let received =
                inbox.until(|received| matches!(received, Received::Event(event) if event.sequence >= joined_at)).await;
            assert_eq!(sequences(&received, "g"), [joined_at - 2, joined_at], "{received:?}");
            assert!(received.iter().any(|received| matches!(received, Received::Closed(_))), "{received:?}");
        }
    }
}

#[tokio::test]
async fn two_streams_of_one_user_receive_the_same_events() {
    let world = World::with_group().await;
    let (mut one, mut two) = (ben_from_now(&world).await, ben_from_now(&world).await);
    world.create(group("h", "ann", &["ben"])).await;
    assert_eq!(one.event().await, two.event().await);
    drop(one);
    world.create(group("i", "ann", &["ben"])).await;
    assert_eq!(two.event().await.conversation_id, "i");
    let mut later = subscribe(&world, "ben", &[], SubscribeStart::Beginning).await.unwrap();
    let received = later.catch_up().await;
    assert_eq!((sequences(&received, "h"), sequences(&received, "i")), (vec![1, 2], vec![1, 2]));
}
