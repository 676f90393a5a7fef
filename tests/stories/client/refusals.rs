use parlance_client::{Client, Draft, SendError, Update};
use std::time::Duration;
use tonic::Code;

use super::{caught_up, client, until};
use crate::support::{World, refused};

#[tokio::test]
async fn what_is_refused_is_told_to_whoever_sent_it_and_ends_nothing() {
    let world = World::with_group().await;
    let client = client(&[world.message_service.address()]);
    let (ann, mut told, _) = caught_up(client.session("ann")).await;
    let Err(SendError::Refused(status)) = ann.send(Draft::text("nowhere", "hi")).await else { panic!() };
    refused::<()>(Err(status), Code::NotFound, "CONVERSATION_NOT_FOUND");
    let Err(SendError::Refused(status)) = ann.send(Draft::text("g", " ")).await else { panic!() };
    refused::<()>(Err(status), Code::InvalidArgument, "INVALID_ARGUMENT");
    assert_eq!(ann.send(Draft::text("g", "fine")).await.unwrap().sequence, 3);
    world.remove("g", "ann", "ben").await.unwrap();
    world.deactivate("ann").await;
    let told = until(&mut told, |update| matches!(update, Update::Ended(_))).await;
    let Some(Update::Ended(status)) = told.into_iter().last() else { unreachable!() };
    refused::<()>(Err(status), Code::FailedPrecondition, "USER_DEACTIVATED");
    assert!(matches!(ann.send(Draft::text("g", "too late")).await, Err(SendError::Ended)));
}

#[tokio::test]
async fn a_user_who_is_not_there_ends_the_session_at_once() {
    let world = World::with_group().await;
    let (nobody, mut told) = client(&[world.message_service.address()]).session("nobody").open();
    let sending = nobody.send(Draft::text("g", "hi")).await;
    assert!(matches!(sending, Err(SendError::Ended | SendError::OutcomeUnknown)), "{sending:?}");
    until(&mut told, |update| matches!(update, Update::Ended(status) if status.code() == Code::NotFound)).await;
    assert!(told.next().await.is_none());
}

#[tokio::test]
async fn while_nobody_answers_a_send_ends_when_its_time_is_over() {
    let client = Client::new(["http://127.0.0.1:1"]).unwrap();
    let (ann, mut told) = client.session("ann").send_limit(Duration::from_millis(300)).open();
    let sent = ann.send(Draft::text("g", "hi")).await;
    assert!(matches!(sent, Err(SendError::Ended)), "never on its way: {sent:?}");
    until(&mut told, |update| matches!(update, Update::Disconnected { .. })).await;
    assert!(Client::new(["not an address"]).is_err() && Client::new([""; 0]).is_err());
}
