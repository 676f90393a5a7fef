//! The database fails in the middle of a call: the error reports whether a retry is safe.

use parlance::user::v1::CreateUserRequest;
use tonic::Code;

use super::by_id;
use crate::support::{
    Mode, PATIENCE, Proxy, RunningUserService, TestDatabase, code_and_reason, eventually, refused, retry_delay,
    user_service_config,
};

struct Outage {
    service: RunningUserService,
    proxy: Proxy,
    _database: TestDatabase,
}

impl Outage {
    async fn new() -> Self {
        let database = TestDatabase::migrated().await;
        let proxy = Proxy::start(Mode::Open).await;
        let config = user_service_config(&database.url_through(proxy.port()), &["--database-timeout", "2s"]);
        let service = RunningUserService::launch(config).await;
        service.wait_until_serving().await;
        Self { service, proxy, _database: database }
    }
}

fn request(name: &str, request_id: &str) -> CreateUserRequest {
    CreateUserRequest {
        user_id: name.to_owned(),
        username: name.to_owned(),
        request_id: request_id.to_owned(),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_lost_response_is_unknown_without_a_request_id_and_safe_to_retry_with_one() {
    let outage = Outage::new().await;
    let mut users = outage.service.users();
    outage.proxy.set(Mode::LosingResponses);
    refused(users.create_user(request("without", "")).await, Code::Unknown, "OUTCOME_UNKNOWN");
    let status = refused(users.create_user(request("with", "r")).await, Code::Unavailable, "DATABASE_UNAVAILABLE");
    assert!(retry_delay(&status).is_some());

    outage.proxy.set(Mode::Open);
    let user = eventually(PATIENCE, || {
        let mut users = users.clone();
        async move { users.create_user(request("with", "r")).await }
    })
    .await
    .into_inner();
    assert_eq!(user.user_id, "with");
    assert_eq!(users.create_user(request("with", "r")).await.unwrap().into_inner(), user);
}

#[tokio::test]
async fn an_unreachable_database_is_unavailable_until_it_returns() {
    let outage = Outage::new().await;
    let mut users = outage.service.users();
    outage.service.create("bob").await;
    outage.proxy.set(Mode::Closed);
    let status = refused(users.get_user(by_id("bob")).await, Code::Unavailable, "DATABASE_UNAVAILABLE");
    assert!(retry_delay(&status).is_some());

    outage.proxy.set(Mode::Open);
    let user = eventually(PATIENCE, || {
        let mut users = users.clone();
        async move {
            users.get_user(by_id("bob")).await.inspect_err(|status| {
                assert_eq!(code_and_reason(status), (Code::Unavailable, "DATABASE_UNAVAILABLE".to_owned()));
            })
        }
    })
    .await;
    assert_eq!(user.into_inner().user_id, "bob");
}
