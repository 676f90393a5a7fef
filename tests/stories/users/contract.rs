//! The contract around the RPCs: reflection, health, and the presence of every used reason.

use parlance::error::v1::ErrorReason;
use tokio_stream::StreamExt;
use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_reflection::pb::{v1, v1alpha};

use super::World;
use crate::support::refused;

const LISTED: [&str; 5] = [
    "UserService",
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
    "parlance.user.v1.UserService",
];

#[tokio::test]
async fn reflection_lists_exactly_the_served_services() {
    use v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let world = World::new().await;
    let ask = ServerReflectionRequest {
        message_request: Some(MessageRequest::ListServices(String::new())),
        ..Default::default()
    };
    let mut client = ServerReflectionClient::new(world.service.channel());
    let mut answers = client.server_reflection_info(tokio_stream::once(ask)).await.unwrap().into_inner();
    let answer = answers.next().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else { panic!("{answer:?}") };
    let mut names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    names.sort();
    assert_eq!(names, LISTED);
}

#[tokio::test]
async fn reflection_v1alpha_lists_the_same_services_and_resolves_the_reasons() {
    use v1alpha::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let world = World::new().await;
    let ask = |message| ServerReflectionRequest { message_request: Some(message), ..Default::default() };
    let asks = vec![
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol("UserInfo".to_owned())),
        ask(MessageRequest::FileContainingSymbol("parlance.error.v1.ErrorReason".to_owned())),
    ];
    let mut client = ServerReflectionClient::new(world.service.channel());
    let mut answers = client.server_reflection_info(tokio_stream::iter(asks)).await.unwrap().into_inner();
    let answer = answers.next().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else { panic!("{answer:?}") };
    let mut names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    names.sort();
    assert_eq!(names, LISTED);
    for _ in 0..2 {
        let answer = answers.next().await.unwrap().unwrap();
        assert!(matches!(answer.message_response, Some(MessageResponse::FileDescriptorResponse(_))), "{answer:?}");
    }
}

#[tokio::test]
async fn health_answers_under_every_name() {
    let world = World::new().await;
    for name in ["", "parlance.user.v1.UserService", "UserService", "startup", "readiness", "liveness"] {
        assert_eq!(world.service.health(name).await.unwrap(), ServingStatus::Serving, "{name}");
    }
    let status = world.service.health("parlance.message.v1.MessageService").await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
}

#[tokio::test]
async fn an_unknown_service_is_unimplemented() {
    let world = World::new().await;
    let mut client = parlance::message::v1::message_service_client::MessageServiceClient::new(world.service.channel());
    refused(
        client.get_message(parlance::message::v1::GetMessageRequest::default()).await,
        Code::Unimplemented,
        "UNIMPLEMENTED",
    );
}

#[test]
fn every_reason_is_sent_as_the_contract_names_it() {
    // Layers name reasons by the enum of the contract; this proves that the names sent are those of the contract, too.
    let reasons: Vec<_> = (0..1_000).filter_map(|number| ErrorReason::try_from(number).ok()).collect();
    assert!(reasons.len() >= 10, "{reasons:?}");
    for reason in reasons {
        let sent = service_kit::failure::Failure::of(reason, "a message").reason();
        assert_eq!(ErrorReason::from_str_name(&format!("ERROR_REASON_{sent}")), Some(reason), "{sent}");
    }
}
