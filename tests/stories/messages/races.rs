//! Concurrent callers: one row for one request, sequences without gaps.

use futures_util::future::join_all;
use parlance::message::v1::{MemberRole, event::Kind};
use tonic::Code;

use crate::support::{World, refused, send_as};

#[tokio::test]
async fn sixteen_concurrent_retries_store_one_message_and_return_it() {
    let world = World::with_group().await;
    let replica = world.replica().await;
    for round in 0..10 {
        let asked = send_as(&format!("r{round}"), "g", "ann", "once");
        // Half of them at another replica.
        let calls = (0..16).map(|caller| {
            let mut client = if caller % 2 == 0 { world.messages() } else { replica.messages() };
            let asked = asked.clone();
            async move { client.send_message(asked).await.unwrap().into_inner() }
        });
        let answers = join_all(calls).await;
        assert!(answers.iter().all(|answer| answer.message == answers[0].message), "{answers:?}");
        assert_eq!(answers.iter().filter(|answer| !answer.duplicate).count(), 1);
        assert_eq!(world.conversation("g", "ann").await.unwrap().message_count, round + 1);
    }
    assert_eq!(world.log("g", "ben").await.len(), 12);
}

#[tokio::test]
async fn of_two_contents_under_one_request_id_one_is_stored_and_the_other_refused() {
    let world = World::with_group().await;
    for round in 0..10 {
        let id = format!("r{round}");
        let calls = (0..8).map(|caller| {
            let asked = send_as(&id, "g", "ann", if caller % 2 == 0 { "heads" } else { "tails" });
            world.try_send(asked)
        });
        let (stored, refusals): (Vec<_>, Vec<_>) = join_all(calls).await.into_iter().partition(Result::is_ok);
        assert_eq!((stored.len(), refusals.len()), (4, 4));
        let first = stored[0].as_ref().unwrap().message.clone();
        assert!(stored.iter().all(|answer| answer.as_ref().unwrap().message == first));
        for answer in refusals {
            refused(answer, Code::InvalidArgument, "REQUEST_ID_REUSED");
        }
    }
    assert_eq!(world.log("g", "ann").await.len(), 12);
}

#[tokio::test]
async fn a_send_after_a_response_gets_a_higher_sequence() {
    let world = World::with_group().await;
    let replica = world.replica().await;
    // Load that keeps the writers busy.
    let noise = join_all((0..200).map(|n| world.try_send(send_as(&format!("n{n}"), "g", "ben", "noise"))));
    let chain = async {
        let mut last = 0;
        for n in 0..30 {
            let mut client = if n % 2 == 0 { world.messages() } else { replica.messages() };
            let answer = client.send_message(send_as(&format!("c{n}"), "g", "ann", "chain")).await.unwrap();
            let sequence = answer.into_inner().message.unwrap().sequence;
            assert!(sequence > last, "{sequence} after {last}");
            last = sequence;
        }
    };
    tokio::join!(async { assert!(noise.await.iter().all(Result::is_ok)) }, chain);
    assert_eq!(world.log("g", "ann").await.len(), 232);
}

#[tokio::test]
async fn a_removed_member_can_send_nothing_after_the_removal_returns() {
    let world = World::with_group().await;
    for round in 0..5 {
        let sends = join_all((0..40).map(|n| world.try_send(send_as(&format!("{round}-{n}"), "g", "ben", "x"))));
        let (answers, removed) = tokio::join!(sends, world.remove("g", "ann", "ben"));
        removed.unwrap();
        for answer in answers.into_iter().filter(Result::is_err) {
            refused(answer, Code::NotFound, "CONVERSATION_NOT_FOUND");
        }
        refused(
            world.try_send(send_as(&format!("late{round}"), "g", "ben", "x")).await,
            Code::NotFound,
            "CONVERSATION_NOT_FOUND",
        );
        world.add("g", "ann", &["ben"], MemberRole::Member).await.unwrap();
    }
    let mut member = false;
    for event in world.log("g", "ann").await {
        match event.kind.unwrap() {
            Kind::MemberJoined(change) if change.user_id == "ben" => member = true,
            Kind::MemberLeft(change) if change.user_id == "ben" => member = false,
            Kind::MessageSent(message) => assert!(member, "sent while not a member: {message:?}"),
            _ => {}
        }
    }
}

#[tokio::test]
async fn concurrent_edits_and_deletions_leave_one_consistent_log() {
    let world = World::with_group().await;
    let sequence = world.send("g", "ann", "x").await.sequence;
    let edits: Vec<String> = (0..20).map(|n| format!("edit {n}")).collect();
    let edits = join_all(edits.iter().map(|text| super::edit(&world, "g", sequence, "ann", text)));
    let deletions = join_all((0..4).map(|_| super::delete(&world, "g", sequence, "ann")));
    let (edits, deletions) = tokio::join!(edits, deletions);
    let tombstone = deletions[0].as_ref().unwrap();
    assert!(deletions.iter().all(|answer| answer.as_ref().unwrap() == tombstone), "{deletions:?}");
    let done = edits.iter().filter(|answer| answer.is_ok()).count();
    for answer in edits.into_iter().filter(Result::is_err) {
        refused(answer, Code::FailedPrecondition, "MESSAGE_DELETED");
    }
    assert_eq!(world.log("g", "ann").await.len(), 3 + done + 1);
    assert_eq!(tombstone.change_sequence, 3 + done as i64 + 1);
}
