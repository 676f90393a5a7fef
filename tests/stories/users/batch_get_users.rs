//! `BatchGetUsers`: order, duplicates, missing users, bounds.

use parlance::user::v1::{BatchGetUsersRequest, DeleteUserRequest, UserState};
use tonic::Code;

use super::World;
use crate::support::{refused, violated_fields};

fn request<'a>(user_ids: impl IntoIterator<Item = &'a str>) -> BatchGetUsersRequest {
    BatchGetUsersRequest { user_ids: user_ids.into_iter().map(str::to_owned).collect() }
}

#[tokio::test]
async fn users_are_returned_in_request_order() {
    let world = World::new().await;
    let mut users = world.service.users();
    for name in ["a", "b", "gone"] {
        world.service.create(name).await;
    }
    users.delete_user(DeleteUserRequest { user_id: "gone".to_owned(), ..Default::default() }).await.unwrap();

    let asked = request(["b", "x", "gone", "a", "b", "B", "x"]);
    let answer = users.batch_get_users(asked).await.unwrap().into_inner();
    let ids: Vec<&str> = answer.users.iter().map(|user| &*user.user_id).collect();
    assert_eq!(ids, ["b", "gone", "a", "b"]);
    assert_eq!(answer.users[1].state(), UserState::Deleted);
    assert_eq!(answer.missing_user_ids, ["x", "B", "x"]);
}

#[tokio::test]
async fn a_request_takes_one_to_a_thousand_ids() {
    let world = World::new().await;
    let mut users = world.service.users();
    let thousand: Vec<String> = (0..1_000).map(|number| format!("user-{number}")).collect();
    let asked = request(thousand.iter().map(String::as_str));
    assert_eq!(users.batch_get_users(asked).await.unwrap().into_inner().missing_user_ids, thousand);

    for asked in [request([]), request(thousand.iter().map(String::as_str).chain(["one-more"]))] {
        let status = refused(users.batch_get_users(asked).await, Code::InvalidArgument, "INVALID_ARGUMENT");
        assert_eq!(violated_fields(&status), ["user_ids"]);
    }
}

#[tokio::test]
async fn every_bad_id_is_reported_with_its_index() {
    let world = World::new().await;
    let answer = world.service.users().batch_get_users(request(["ok", "~x", "ok", "", "a\0"])).await;
    let status = refused(answer, Code::InvalidArgument, "INVALID_ARGUMENT");
    assert_eq!(violated_fields(&status), ["user_ids[1]", "user_ids[3]", "user_ids[4]"]);
}

#[tokio::test]
async fn at_most_twenty_violations_are_reported() {
    let world = World::new().await;
    let answer = world.service.users().batch_get_users(request(std::iter::repeat_n("", 1_000))).await;
    let status = refused(answer, Code::InvalidArgument, "INVALID_ARGUMENT");
    assert_eq!(violated_fields(&status).len(), 20);
}
