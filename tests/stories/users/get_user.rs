//! `GetUser`: by id, by name, by both; many at once.

use std::collections::HashSet;

use futures_util::future::join_all;
use parlance::user::v1::GetUserRequest;
use tonic::Code;

use super::{World, by_id, by_name};
use crate::support::{metadata, refused, resource, violated_fields};

fn by_both(user_id: &str, username: &str) -> GetUserRequest {
    GetUserRequest { user_id: user_id.to_owned(), username: username.to_owned() }
}

#[tokio::test]
async fn usernames_ignore_case_and_ids_do_not() {
    let world = World::new().await;
    let mut users = world.service.users();
    let bob = world.service.create("Bob").await;
    for asked in [by_id("Bob"), by_name("Bob"), by_name("bOB"), by_both("Bob", "BOB")] {
        assert_eq!(users.get_user(asked).await.unwrap().into_inner(), bob);
    }
    refused(users.get_user(by_id("bob")).await, Code::NotFound, "USER_NOT_FOUND");
}

#[tokio::test]
async fn an_unknown_user_is_not_found() {
    let world = World::new().await;
    let mut users = world.service.users();
    world.service.create("alice").await;
    world.service.create("bob").await;

    let status = refused(users.get_user(by_id("carol")).await, Code::NotFound, "USER_NOT_FOUND");
    assert_eq!(metadata(&status, "user_ids"), "carol");
    assert_eq!(resource(&status), ("parlance.user.v1.User".to_owned(), "carol".to_owned()));

    let status = refused(users.get_user(by_name("Carol")).await, Code::NotFound, "USER_NOT_FOUND");
    assert_eq!((metadata(&status, "username"), resource(&status).1), ("Carol".to_owned(), "Carol".to_owned()));

    for asked in [by_both("alice", "bob"), by_both("alice", "missing"), by_both("missing", "alice")] {
        refused(users.get_user(asked).await, Code::NotFound, "USER_NOT_FOUND");
    }
}

#[tokio::test]
async fn a_request_without_a_name_or_out_of_bounds_is_invalid() {
    let world = World::new().await;
    let mut users = world.service.users();
    for (fields, asked) in [
        (&["user_id"][..], by_both("", "")),
        (&["user_id"], by_id("~d")),
        (&["user_id"], by_id("a\0")),
        (&["user_id"], by_id(&"x".repeat(65))),
        (&["username"], by_name("a~")),
        (&["username"], by_name(&"x".repeat(65))),
        (&["user_id", "username"], by_both("a/b", "a/b")),
    ] {
        let status = refused(users.get_user(asked).await, Code::InvalidArgument, "INVALID_ARGUMENT");
        assert_eq!(violated_fields(&status), fields);
    }
}

#[tokio::test]
async fn two_hundred_concurrent_lookups_return_the_right_users() {
    let world = World::new().await;
    let known: HashSet<String> = ["a", "b", "c", "d", "e"].map(str::to_owned).into();
    for name in &known {
        world.service.create(name).await;
    }
    let calls = (0..200).map(|call| {
        let mut users = world.service.users();
        let user_id = ["a", "b", "c", "d", "e", "missing"][call % 6];
        async move { (user_id, users.get_user(by_id(user_id)).await) }
    });
    for (asked, answer) in join_all(calls).await {
        if known.contains(asked) {
            assert_eq!(answer.unwrap().into_inner().user_id, asked);
        } else {
            let status = refused(answer, Code::NotFound, "USER_NOT_FOUND");
            assert_eq!(metadata(&status, "user_ids"), asked);
        }
    }
}

#[tokio::test]
async fn a_cancelled_lookup_does_not_affect_others() {
    let world = World::new().await;
    world.service.create("bob").await;
    for _ in 0..20 {
        let leaving = (0..20).map(|_| {
            let mut users = world.service.users();
            async move {
                let asked = users.get_user(by_id("bob"));
                // Cancelled after the first poll, when the lookup is in flight or not yet.
                tokio::select! { biased; _ = asked => {}, () = tokio::task::yield_now() => {} }
            }
        });
        let (_, answer) = tokio::join!(join_all(leaving), world.get("bob"));
        assert_eq!(answer.user_id, "bob");
    }
}
