//! Start and stop of the service: racing migrations, a database that is late or too new, a clean stop.

use futures_util::future::join_all;
use service_kit::healthcheck;
use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus;

use super::{World, by_id};
use crate::support::{
    Mode, Process, Proxy, RunningUserService, TestDatabase, refused, retry_delay, user_service_config,
};

#[tokio::test]
async fn ten_services_starting_on_an_empty_database_migrate_once() {
    let database = TestDatabase::empty().await;
    let services = join_all((0..10).map(|_| RunningUserService::start(&database))).await;
    for (number, service) in services.iter().enumerate() {
        service.create(&format!("user-{number}")).await;
    }

    let history: Vec<(i32, i64)> =
        sqlx::query_as("SELECT version, count(*) FROM parlance_user.schema_history GROUP BY version ORDER BY version")
            .fetch_all(&mut database.connect().await)
            .await
            .unwrap();
    let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/user")).unwrap().count();
    let once_each: Vec<(i32, i64)> = (1..=files as i32).map(|version| (version, 1)).collect();
    assert_eq!(history, once_each);
}

#[tokio::test]
async fn a_newer_schema_is_refused_with_a_clear_error() {
    let database = TestDatabase::migrated().await;
    sqlx::query(
        "INSERT INTO parlance_user.schema_history (version, name, applied_on, checksum)
         VALUES (999, 'from_the_future', '2026-01-01T00:00:00Z', '1')",
    )
    .execute(&mut database.connect().await)
    .await
    .unwrap();
    let mut service = RunningUserService::launch(user_service_config(&database.url(), &[])).await;
    let error = service.ended().await.unwrap_err();
    let causes: Vec<String> = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source())
        .map(ToString::to_string)
        .collect();
    assert!(causes.iter().any(|text| text.contains("999") && text.contains("run a newer binary")), "{causes:?}");
}

#[tokio::test]
async fn a_service_without_its_database_is_not_serving_until_it_returns() {
    let database = TestDatabase::migrated().await;
    let proxy = Proxy::start(Mode::Closed).await;
    let config = user_service_config(&database.url_through(proxy.port()), &[]);
    let service = RunningUserService::launch(config).await;

    for (name, status) in [
        ("", ServingStatus::NotServing),
        ("startup", ServingStatus::NotServing),
        ("readiness", ServingStatus::NotServing),
        ("parlance.user.v1.UserService", ServingStatus::NotServing),
        ("liveness", ServingStatus::Serving),
    ] {
        assert_eq!(service.health(name).await.unwrap(), status, "{name}");
    }
    let error = healthcheck::ask(service.address()).await.unwrap_err().to_string();
    assert!(error.contains("not serving"), "{error}");
    let status = refused(service.users().get_user(by_id("x")).await, Code::Unavailable, "DATABASE_UNAVAILABLE");
    assert!(retry_delay(&status).is_some());

    proxy.set(Mode::Open);
    service.wait_until_serving().await;
    healthcheck::ask(service.address()).await.unwrap();
    service.create("x").await;
}

#[tokio::test]
async fn a_stop_is_clean_and_leaves_no_connection() {
    let World { service, database } = World::new().await;
    service.create("x").await;
    service.stop().await.unwrap();
    let (left,): (i64,) = sqlx::query_as(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    .fetch_one(&mut database.connect().await)
    .await
    .unwrap();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn a_stop_does_not_wait_for_the_database() {
    let database = TestDatabase::migrated().await;
    let proxy = Proxy::start(Mode::Closed).await;
    let service = RunningUserService::launch(user_service_config(&database.url_through(proxy.port()), &[])).await;
    assert_eq!(service.health("").await.unwrap(), ServingStatus::NotServing);
    service.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_service_stops_within_the_drain_timeout() {
    let database = TestDatabase::migrated().await;
    let mut user_service = Process::user_service(&database.url()).await;
    let address = user_service.address().to_string();
    let mut message_service = Process::message_service(&database.url(), &address, &[]).await;
    for process in [&mut message_service, &mut user_service] {
        process.terminate();
        assert_eq!(process.ended().await.code(), Some(0));
        let log = process.log();
        assert!(!log.contains("drain took too long"), "{log}");
    }
}
