//! The legacy contract: `/UserService/GetUser`, without a package.

use parlance::original::UserInfo;
use tonic::Code;

use super::World;
use crate::support::{metadata, refused, violated_fields};

fn info(user_id: &str, username: &str) -> UserInfo {
    UserInfo { user_id: user_id.to_owned(), username: username.to_owned() }
}

#[tokio::test]
async fn a_legacy_client_gets_id_and_name() {
    let world = World::new().await;
    let mut old = world.service.original();
    world.service.create("Bob").await;
    for asked in [info("Bob", ""), info("Bob", "another"), info("Bob", "a\0"), info("", "bOB")] {
        assert_eq!(old.get_user(asked).await.unwrap().into_inner(), info("Bob", "Bob"));
    }
}

#[tokio::test]
async fn a_deactivated_user_is_returned() {
    let world = World::new().await;
    world.service.create("Bob").await;
    world.service.users().deactivate_user(super::deactivate_user::request("Bob")).await.unwrap();
    let answer = world.service.original().get_user(info("Bob", "")).await.unwrap().into_inner();
    assert_eq!(answer, info("Bob", "Bob"));
}

#[tokio::test]
async fn legacy_errors_match_the_current_contract() {
    let world = World::new().await;
    let mut old = world.service.original();
    let status = refused(old.get_user(info("123", "")).await, Code::NotFound, "USER_NOT_FOUND");
    assert_eq!(metadata(&status, "user_ids"), "123");
    for bad in [info("", ""), info("~x", "")] {
        let status = refused(old.get_user(bad).await, Code::InvalidArgument, "INVALID_ARGUMENT");
        assert_eq!(violated_fields(&status), ["user_id"]);
    }
}
