//! Health of message-service: its names, and their status over its life.

use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus;

use crate::support::{
    Mode, PATIENCE, Proxy, RunningMessageService, RunningUserService, TestDatabase, World, eventually,
    message_service_config, refused, retry_delay,
};

const NAMES: [&str; 6] = [
    "",
    "parlance.message.v1.ConversationService",
    "parlance.message.v1.MessageService",
    "startup",
    "readiness",
    "liveness",
];

#[tokio::test]
async fn health_answers_under_every_name() {
    let world = World::new().await;
    for name in NAMES {
        assert_eq!(world.message_service.health(name).await.unwrap(), ServingStatus::Serving, "{name}");
    }
    for name in ["parlance.user.v1.UserService", "UserService", "x"] {
        assert_eq!(world.message_service.health(name).await.unwrap_err().code(), Code::NotFound, "{name}");
    }
}

#[tokio::test]
async fn readiness_requires_the_database_and_not_user_service() {
    let database = TestDatabase::empty().await;
    let proxy = Proxy::start(Mode::Closed).await;
    // Nothing listens there.
    let config = message_service_config(&database.url_through(proxy.port()), "127.0.0.1:1", &[]);
    let service = RunningMessageService::launch(config).await;
    for name in NAMES {
        let expected = if name == "liveness" { ServingStatus::Serving } else { ServingStatus::NotServing };
        assert_eq!(service.health(name).await.unwrap(), expected, "{name}");
    }
    let get = parlance::message::v1::GetConversationRequest { conversation_id: "g".into(), actor_id: "ann".into() };
    let status =
        refused(service.conversations().get_conversation(get.clone()).await, Code::Unavailable, "DATABASE_UNAVAILABLE");
    assert!(retry_delay(&status).is_some());

    proxy.set(Mode::Open);
    service.wait_until_serving().await;
    for name in NAMES {
        assert_eq!(service.health(name).await.unwrap(), ServingStatus::Serving, "{name}");
    }
    refused(service.conversations().get_conversation(get).await, Code::Unavailable, "USER_SERVICE_UNAVAILABLE");
}

#[tokio::test]
async fn a_draining_process_reports_not_serving_while_it_still_answers() {
    let database = TestDatabase::migrated().await;
    let user_service = RunningUserService::start(&database).await;
    user_service.create("ann").await;
    let address = user_service.address().to_string();
    // Like the other stories, except that calls are accepted for a while.
    let mut config = message_service_config(&database.url(), &address, &[]);
    config.shared.drain_accept = std::time::Duration::from_secs(2);
    let service = RunningMessageService::start(config).await;
    service.begin_stop();
    eventually(PATIENCE, || async {
        match service.health("").await {
            Ok(ServingStatus::NotServing) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let created = service.conversations().create_conversation(crate::support::group("g", "ann", &[])).await;
    assert_eq!(created.unwrap().into_inner().conversation_id, "g");
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_stop_is_clean_and_leaves_no_connection() {
    let world = World::with_group().await;
    world.send("g", "ann", "x").await;
    let World { message_service, user_service, database } = world;
    message_service.stop().await.unwrap();
    user_service.stop().await.unwrap();
    // A backend ends a moment after its socket.
    eventually(PATIENCE, || async {
        let (left,): (i64,) = sqlx::query_as(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        .fetch_one(&mut database.connect().await)
        .await
        .unwrap();
        if left == 0 { Ok(()) } else { Err(format!("{left} connections")) }
    })
    .await;
}
