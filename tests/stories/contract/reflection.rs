//! Reflection of message-service, in both versions: the services it lists, and every file a tool needs.

use std::collections::BTreeSet;

use prost::Message;
use prost_types::FileDescriptorProto;
use tokio_stream::StreamExt;

use crate::support::World;

const LISTED: [&str; 5] = [
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
    "parlance.message.v1.ConversationService",
    "parlance.message.v1.MessageService",
];

/// The same client over the generated types of either version.
macro_rules! explore {
    ($version:ident, $world:expr) => {{
        use tonic_reflection::pb::$version::{
            ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
            server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
        };
        let client = ServerReflectionClient::new($world.message_service.channel());
        let ask = async |message: MessageRequest| {
            let request = ServerReflectionRequest { message_request: Some(message), ..Default::default() };
            let answers = client.clone().server_reflection_info(tokio_stream::once(request)).await;
            answers.unwrap().into_inner().next().await.unwrap().unwrap().message_response.unwrap()
        };
        let MessageResponse::ListServicesResponse(list) = ask(MessageRequest::ListServices(String::new())).await else {
            panic!("no list")
        };
        let mut names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
        names.sort();
        assert_eq!(names, LISTED);

        let files = |response| match response {
            MessageResponse::FileDescriptorResponse(files) => files.file_descriptor_proto,
            other => panic!("{other:?}"),
        };
        let mut known = BTreeSet::new();
        let mut wanted = Vec::new();
        for symbol in names.iter().map(String::as_str).chain(["parlance.error.v1.ErrorReason"]) {
            for file in files(ask(MessageRequest::FileContainingSymbol(symbol.to_owned())).await) {
                wanted.push(FileDescriptorProto::decode(&*file).unwrap());
            }
        }
        while let Some(file) = wanted.pop() {
            if !known.insert(file.name().to_owned()) {
                continue;
            }
            for dependency in &file.dependency {
                for file in files(ask(MessageRequest::FileByFilename(dependency.clone())).await) {
                    wanted.push(FileDescriptorProto::decode(&*file).unwrap());
                }
            }
        }
        known
    }};
}

#[tokio::test]
async fn a_tool_of_either_version_lists_the_services_and_resolves_every_file() {
    let world = World::new().await;
    let v1 = explore!(v1, world);
    let v1alpha = explore!(v1alpha, world);
    assert_eq!(v1, v1alpha);
    for file in [
        "parlance/message/v1/message_service.proto",
        "parlance/message/v1/conversation_service.proto",
        "parlance/message/v1/event.proto",
        "parlance/error/v1/error_reason.proto",
        "google/rpc/status.proto",
        "google/protobuf/timestamp.proto",
    ] {
        assert!(v1.contains(file), "{file} is not among {v1:?}");
    }
}
