//! `DeleteUser`: the tombstone, and reuse of id, name and request.

use parlance::{
    original::UserInfo,
    user::v1::{CreateUserRequest, DeleteUserRequest, UserState},
};
use tonic::Code;

use super::{World, by_id, by_name};
use crate::support::{metadata, refused, violated_fields};

fn request(user_id: &str, etag: &str) -> DeleteUserRequest {
    DeleteUserRequest { user_id: user_id.to_owned(), etag: etag.to_owned() }
}

fn create(user_id: &str, username: &str, request_id: &str) -> CreateUserRequest {
    CreateUserRequest {
        user_id: user_id.to_owned(),
        username: username.to_owned(),
        display_name: "Name".to_owned(),
        request_id: request_id.to_owned(),
    }
}

#[tokio::test]
async fn a_deleted_user_has_no_username_and_is_found_by_id_only() {
    let world = World::new().await;
    let mut users = world.service.users();
    let before = users.create_user(create("u", "Bob", "")).await.unwrap().into_inner();
    let stone = users.delete_user(request("u", "")).await.unwrap().into_inner();
    assert_eq!((&*stone.user_id, &*stone.username, &*stone.display_name), ("u", "", ""));
    assert_eq!(stone.state(), UserState::Deleted);
    assert_eq!(stone.create_time, before.create_time);
    assert!(stone.delete_time.is_some() && stone.delete_time == stone.update_time);
    assert_ne!(stone.etag, before.etag);

    assert_eq!(users.get_user(by_id("u")).await.unwrap().into_inner(), stone);
    refused(users.get_user(by_name("Bob")).await, Code::NotFound, "USER_NOT_FOUND");
    let both = parlance::user::v1::GetUserRequest { user_id: "u".to_owned(), username: "Bob".to_owned() };
    refused(users.get_user(both).await, Code::NotFound, "USER_NOT_FOUND");
    let info = UserInfo { user_id: "u".to_owned(), ..Default::default() };
    refused(world.service.original().get_user(info).await, Code::NotFound, "USER_NOT_FOUND");
}

#[tokio::test]
async fn no_personal_data_is_left_in_the_row() {
    let world = World::new().await;
    let mut users = world.service.users();
    users.create_user(create("u", "Bob", "r")).await.unwrap();
    users.delete_user(request("u", "")).await.unwrap();
    let (row,): (String,) = sqlx::query_as("SELECT users::text FROM parlance_user.users WHERE user_id = 'u'")
        .fetch_one(&mut world.database.connect().await)
        .await
        .unwrap();
    assert!(!row.to_lowercase().contains("bob") && !row.contains("Name") && !row.contains("\\x"), "{row}");
}

#[tokio::test]
async fn a_deleted_users_name_can_be_reused_and_its_id_cannot() {
    let world = World::new().await;
    let mut users = world.service.users();
    users.create_user(create("u", "Bob", "")).await.unwrap();
    users.delete_user(request("u", "")).await.unwrap();
    let status = refused(users.create_user(create("u", "other", "")).await, Code::AlreadyExists, "USER_ID_TAKEN");
    assert_eq!(metadata(&status, "user_id"), "u");
    users.create_user(create("v", "bob", "")).await.unwrap();
}

#[tokio::test]
async fn retrying_the_creation_returns_the_deleted_user() {
    let world = World::new().await;
    let mut users = world.service.users();
    users.create_user(create("", "Bob", "r")).await.unwrap();
    let user_id = users.get_user(by_name("bob")).await.unwrap().into_inner().user_id;
    let stone = users.delete_user(request(&user_id, "")).await.unwrap().into_inner();
    // Also when another user has the name meanwhile.
    users.create_user(create("v", "Bob", "")).await.unwrap();
    assert_eq!(users.create_user(create("", "Bob", "r")).await.unwrap().into_inner(), stone);
}

#[tokio::test]
async fn deletion_is_idempotent_with_any_etag() {
    let world = World::new().await;
    let mut users = world.service.users();
    let before = world.service.create("u").await;
    let stone = users.delete_user(request("u", &before.etag)).await.unwrap().into_inner();
    for etag in ["", &before.etag, &stone.etag, "nonsense"] {
        assert_eq!(users.delete_user(request("u", etag)).await.unwrap().into_inner(), stone);
    }
}

#[tokio::test]
async fn a_stale_etag_is_refused_and_a_deactivated_user_can_be_deleted() {
    let world = World::new().await;
    let mut users = world.service.users();
    let before = world.service.create("u").await;
    users.deactivate_user(super::deactivate_user::request("u")).await.unwrap();
    refused(users.delete_user(request("u", &before.etag)).await, Code::Aborted, "ETAG_MISMATCH");
    let stone = users.delete_user(request("u", "")).await.unwrap().into_inner();
    assert_eq!(stone.state(), UserState::Deleted);
}

#[tokio::test]
async fn an_unknown_user_is_not_found_and_bounds_are_enforced() {
    let world = World::new().await;
    let mut users = world.service.users();
    refused(users.delete_user(request("x", "")).await, Code::NotFound, "USER_NOT_FOUND");
    let status = refused(users.delete_user(request("~", "a\0")).await, Code::InvalidArgument, "INVALID_ARGUMENT");
    assert_eq!(violated_fields(&status), ["user_id", "etag"]);
}
