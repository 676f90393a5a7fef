//! `CreateUser`: bounds, taken ids and names, retries, races.

use futures_util::future::join_all;
use parlance::user::v1::{CreateUserRequest, UserState};
use tonic::Code;

use super::World;
use crate::support::{metadata, refused, resource, violated_fields};

fn request(user_id: &str, username: &str, display_name: &str, request_id: &str) -> CreateUserRequest {
    CreateUserRequest {
        user_id: user_id.to_owned(),
        username: username.to_owned(),
        display_name: display_name.to_owned(),
        request_id: request_id.to_owned(),
    }
}

#[tokio::test]
async fn a_user_keeps_the_id_chosen_by_the_caller() {
    let world = World::new().await;
    let asked = request("order-1.A_b~c", "Bob", "Bob 😀", "");
    let user = world.service.users().create_user(asked).await.unwrap().into_inner();
    assert_eq!((&*user.user_id, &*user.username, &*user.display_name), ("order-1.A_b~c", "Bob", "Bob 😀"));
    assert_eq!(user.state(), UserState::Active);
    assert!(user.create_time.is_some() && user.create_time == user.update_time && user.delete_time.is_none());
    assert!(user.etag.starts_with('"') && user.etag.ends_with('"') && user.etag.len() > 2);
    assert_eq!(world.get("order-1.A_b~c").await, user);
}

#[tokio::test]
async fn without_an_id_the_service_assigns_a_uuid_v7() {
    let world = World::new().await;
    let first = world.service.users().create_user(request("", "a", "", "")).await.unwrap().into_inner();
    let second = world.service.users().create_user(request("", "b", "", "")).await.unwrap().into_inner();
    assert_eq!((first.user_id.len(), first.user_id.as_bytes()[14]), (36, b'7'));
    assert!(first.user_id < second.user_id);
}

#[tokio::test]
async fn values_at_their_bounds_are_accepted_and_beyond_them_refused() {
    let world = World::new().await;
    let mut users = world.service.users();
    let (id, name, display, request_id) = ("i".repeat(64), "n".repeat(64), "😀".repeat(256), "r".repeat(64));
    users.create_user(request(&id, &name, &display, &request_id)).await.unwrap();

    for (field, bad) in [
        ("user_id", request(&"i".repeat(65), "x", "", "")),
        ("user_id", request("~x", "x", "", "")),
        ("user_id", request("a b", "x", "", "")),
        ("user_id", request("a\0b", "x", "", "")),
        ("username", request("", "", "", "")),
        ("username", request("", &"n".repeat(65), "", "")),
        ("username", request("", "a~b", "", "")),
        ("username", request("", "Zoë", "", "")),
        ("username", request("", "a\0b", "", "")),
        ("display_name", request("", "x", &"😀".repeat(257), "")),
        ("display_name", request("", "x", &"a".repeat(257), "")),
        ("display_name", request("", "x", "a\0b", "")),
        ("request_id", request("", "x", "", &"r".repeat(65))),
        ("request_id", request("", "x", "", "é")),
        ("request_id", request("", "x", "", "a\0b")),
        ("request_id", request("", "x", "", "a\nb")),
    ] {
        let status = refused(users.create_user(bad).await, Code::InvalidArgument, "INVALID_ARGUMENT");
        assert_eq!(violated_fields(&status), [field]);
    }
}

#[tokio::test]
async fn all_violations_are_reported_at_once() {
    let world = World::new().await;
    let bad = request("~", "", &"x".repeat(257), "\u{7f}");
    let status = refused(world.service.users().create_user(bad).await, Code::InvalidArgument, "INVALID_ARGUMENT");
    assert_eq!(violated_fields(&status), ["user_id", "username", "display_name", "request_id"]);
}

#[tokio::test]
async fn a_request_beyond_a_mebibyte_is_too_large() {
    let world = World::new().await;
    let large = request("", "x", &"x".repeat(1024 * 1024 + 1), "");
    refused(world.service.users().create_user(large).await, Code::ResourceExhausted, "REQUEST_TOO_LARGE");
}

#[tokio::test]
async fn a_taken_id_or_username_is_refused() {
    let world = World::new().await;
    let mut users = world.service.users();
    users.create_user(request("one", "Bob", "", "")).await.unwrap();

    let status =
        refused(users.create_user(request("one", "other", "", "")).await, Code::AlreadyExists, "USER_ID_TAKEN");
    assert_eq!(metadata(&status, "user_id"), "one");
    assert_eq!(resource(&status), ("parlance.user.v1.User".to_owned(), "one".to_owned()));

    let status = refused(users.create_user(request("two", "BOB", "", "")).await, Code::AlreadyExists, "USERNAME_TAKEN");
    assert_eq!(metadata(&status, "username"), "BOB");
    assert_eq!(resource(&status).1, "BOB");

    // Ids are case-sensitive.
    users.create_user(request("ONE", "third", "", "")).await.unwrap();
}

#[tokio::test]
async fn a_retry_returns_the_current_user() {
    let world = World::new().await;
    let mut users = world.service.users();
    for (user_id, name) in [("given", "given"), ("", "made")] {
        let asked = request(user_id, name, "Name", &format!("request of {name}"));
        let first = users.create_user(asked.clone()).await.unwrap().into_inner();
        assert_eq!(users.create_user(asked.clone()).await.unwrap().into_inner(), first);

        let deactivated = world.service.users().deactivate_user(super::deactivate_user::request(&first.user_id)).await;
        assert_eq!(users.create_user(asked).await.unwrap().into_inner(), deactivated.unwrap().into_inner());
    }
}

#[tokio::test]
async fn a_request_id_with_different_content_is_refused_as_reused() {
    let world = World::new().await;
    let mut users = world.service.users();
    users.create_user(request("one", "Bob", "Bob", "r")).await.unwrap();
    for other in [
        request("two", "Bob", "Bob", "r"),
        request("", "Bob", "Bob", "r"),
        request("one", "bob", "Bob", "r"),
        request("one", "Bob", "Bob B", "r"),
        request("three", "free", "", "r"),
    ] {
        let status = refused(users.create_user(other).await, Code::InvalidArgument, "REQUEST_ID_REUSED");
        assert_eq!(metadata(&status, "request_id"), "r");
    }
}

#[tokio::test]
async fn sixteen_concurrent_retries_create_one_user() {
    let world = World::new().await;
    for round in 0..5 {
        let asked = request("", &format!("name-{round}"), "", &format!("request-{round}"));
        let calls = (0..16).map(|_| {
            let (mut users, asked) = (world.service.users(), asked.clone());
            async move { users.create_user(asked).await.unwrap().into_inner() }
        });
        let answers = join_all(calls).await;
        assert!(answers.iter().all(|user| *user == answers[0]), "{answers:?}");
    }
}

#[tokio::test]
async fn of_sixteen_concurrent_creations_of_one_username_one_succeeds() {
    let world = World::new().await;
    let calls = (0..16).map(|caller| {
        let mut users = world.service.users();
        // The case differs, the name does not.
        let name = if caller % 2 == 0 { "Wanted" } else { "wANTED" };
        async move { users.create_user(request(&format!("caller-{caller}"), name, "", "")).await }
    });
    let (made, taken): (Vec<_>, Vec<_>) = join_all(calls).await.into_iter().partition(Result::is_ok);
    assert_eq!((made.len(), taken.len()), (1, 15));
    for answer in taken {
        refused(answer, Code::AlreadyExists, "USERNAME_TAKEN");
    }
}
