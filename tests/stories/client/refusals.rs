use std::time::{Duration, Instant};

use parlance_client::{Client, Draft, SendError, Start, Update};
use tokio::time::timeout;
use tonic::Code;

use super::{caught_up, client, until};
use crate::support::{PATIENCE, World, refused};

#[tokio::test]
async fn a_refusal_reaches_the_sender_and_the_session_continues() {
    let world = World::with_group().await;
    let client = client(&[world.message_service.address()]);
    let (ann, mut updates, _) = caught_up(client.session("ann")).await;
    let Err(SendError::Refused(status)) = ann.send(Draft::text("nowhere", "hi")).await else { panic!() };
    refused::<()>(Err(status), Code::NotFound, "CONVERSATION_NOT_FOUND");
    let Err(SendError::Refused(status)) = ann.send(Draft::text("g", " ")).await else { panic!() };
    refused::<()>(Err(status), Code::InvalidArgument, "INVALID_ARGUMENT");
    assert_eq!(ann.send(Draft::text("g", "fine")).await.unwrap().sequence, 3);
    world.remove("g", "ann", "ben").await.unwrap();
    world.deactivate("ann").await;
    let received = until(&mut updates, |update| matches!(update, Update::Ended(_))).await;
    let Some(Update::Ended(status)) = received.into_iter().last() else { unreachable!() };
    refused::<()>(Err(status), Code::FailedPrecondition, "USER_DEACTIVATED");
    assert!(matches!(ann.send(Draft::text("g", "too late")).await, Err(SendError::Ended)));
}

#[tokio::test]
async fn an_unknown_user_ends_the_session_at_once() {
    let world = World::with_group().await;
    let (session, mut updates) = client(&[world.message_service.address()]).session("missing").open();
    let sending = session.send(Draft::text("g", "hi")).await;
    assert!(matches!(sending, Err(SendError::Ended | SendError::OutcomeUnknown)), "{sending:?}");
    until(&mut updates, |update| matches!(update, Update::Ended(status) if status.code() == Code::NotFound)).await;
    assert!(updates.next().await.is_none());
}

#[tokio::test]
async fn a_send_without_a_response_ends_at_its_deadline() {
    let client = Client::new(["http://127.0.0.1:1"]).unwrap();
    let (ann, mut updates) = client.session("ann").send_limit(Duration::from_millis(300)).open();
    let sent = ann.send(Draft::text("g", "hi")).await;
    assert!(matches!(sent, Err(SendError::Ended)), "never in flight: {sent:?}");
    until(&mut updates, |update| matches!(update, Update::Disconnected { .. })).await;
    assert!(Client::new(["not an address"]).is_err() && Client::new([""; 0]).is_err());
}

#[tokio::test]
async fn a_send_after_the_end_fails_although_no_update_is_taken() {
    let world = World::with_group().await;
    // More than the session passes on to an application that takes none.
    for n in 0..300 {
        world.send("g", "ann", &n.to_string()).await;
    }
    let client = client(&[world.message_service.address()]);
    let (ben, _updates) = client.session("ben").start(Start::Beginning).open();
    ben.send(Draft::text("g", "before")).await.unwrap();
    world.deactivate("ben").await;
    let began = Instant::now();
    loop {
        let sent = timeout(PATIENCE, ben.send(Draft::text("g", "after"))).await.expect("an answer");
        match sent {
            Err(SendError::Ended) => break,
            other => assert!(began.elapsed() < PATIENCE, "the session goes on: {other:?}"),
        }
    }
}
