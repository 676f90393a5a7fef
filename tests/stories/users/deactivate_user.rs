//! `DeactivateUser` and `ReactivateUser`.

use parlance::user::v1::{DeactivateUserRequest, DeleteUserRequest, ReactivateUserRequest, UserState};
use tonic::Code;

use super::World;
use crate::support::{metadata, preconditions, refused, resource, violated_fields};

pub(super) fn request(user_id: &str) -> DeactivateUserRequest {
    DeactivateUserRequest { user_id: user_id.to_owned() }
}

fn reactivate_request(user_id: &str) -> ReactivateUserRequest {
    ReactivateUserRequest { user_id: user_id.to_owned() }
}

#[tokio::test]
async fn deactivating_and_reactivating_are_idempotent() {
    let world = World::new().await;
    let mut users = world.service.users();
    let active = world.service.create("u").await;
    assert_eq!(users.reactivate_user(reactivate_request("u")).await.unwrap().into_inner(), active);

    let deactivated = users.deactivate_user(request("u")).await.unwrap().into_inner();
    assert_eq!((deactivated.state(), &*deactivated.username), (UserState::Deactivated, "u"));
    assert_eq!(users.deactivate_user(request("u")).await.unwrap().into_inner(), deactivated);
    assert_eq!(world.get("u").await, deactivated);

    let again = users.reactivate_user(reactivate_request("u")).await.unwrap().into_inner();
    assert_eq!(again.state(), UserState::Active);
    assert_ne!(again.etag, active.etag);
}

#[tokio::test]
async fn an_unknown_user_is_not_found_and_a_deleted_one_stays_deleted() {
    let world = World::new().await;
    let mut users = world.service.users();
    for answer in
        [users.deactivate_user(request("x")).await, users.clone().reactivate_user(reactivate_request("x")).await]
    {
        let status = refused(answer, Code::NotFound, "USER_NOT_FOUND");
        assert_eq!((metadata(&status, "user_ids"), resource(&status).1), ("x".to_owned(), "x".to_owned()));
    }

    world.service.create("gone").await;
    users.delete_user(DeleteUserRequest { user_id: "gone".to_owned(), ..Default::default() }).await.unwrap();
    for answer in
        [users.deactivate_user(request("gone")).await, users.clone().reactivate_user(reactivate_request("gone")).await]
    {
        let status = refused(answer, Code::FailedPrecondition, "USER_DELETED");
        assert_eq!(preconditions(&status), ["gone"]);
    }
}

#[tokio::test]
async fn an_id_out_of_bounds_is_invalid() {
    let world = World::new().await;
    let mut users = world.service.users();
    for bad in ["", "~x", "a\0", &"x".repeat(65)] {
        for answer in
            [users.deactivate_user(request(bad)).await, users.clone().reactivate_user(reactivate_request(bad)).await]
        {
            let status = refused(answer, Code::InvalidArgument, "INVALID_ARGUMENT");
            assert_eq!(violated_fields(&status), ["user_id"]);
        }
    }
}
