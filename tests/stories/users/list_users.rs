//! `ListUsers`: order, pages under change, prefixes, tokens.

use parlance::user::v1::{DeleteUserRequest, ListUsersRequest, ListUsersResponse};
use tonic::Code;

use super::World;
use crate::support::{RunningUserService, TestDatabase, refused, violated_fields};

async fn page(service: &RunningUserService, request: &ListUsersRequest) -> ListUsersResponse {
    service.users().list_users(request.clone()).await.unwrap().into_inner()
}

fn ids(response: &ListUsersResponse) -> Vec<&str> {
    response.users.iter().map(|user| &*user.user_id).collect()
}

/// Reads all pages of this size.
async fn all(service: &RunningUserService, page_size: i32, request: ListUsersRequest) -> Vec<String> {
    let mut request = ListUsersRequest { page_size, ..request };
    let mut seen = Vec::new();
    loop {
        let response = page(service, &request).await;
        assert!(response.users.len() <= page_size as usize);
        seen.extend(response.users.into_iter().map(|user| user.user_id));
        if response.next_page_token.is_empty() {
            return seen;
        }
        request.page_token = response.next_page_token;
    }
}

async fn delete(world: &World, user_id: &str) {
    let request = DeleteUserRequest { user_id: user_id.to_owned(), ..Default::default() };
    world.service.users().delete_user(request).await.unwrap();
}

#[tokio::test]
async fn users_are_ordered_by_name_ignoring_case_with_deleted_ones_last() {
    let world = World::new().await;
    for name in ["b", "A", "c", "_x", "B2", "9", "-", "z.z"] {
        world.service.create(name).await;
    }
    delete(&world, "A").await;
    delete(&world, "9").await;
    let living = ["-", "_x", "b", "B2", "c", "z.z"];
    for page_size in 1..=7 {
        assert_eq!(all(&world.service, page_size, ListUsersRequest::default()).await, living);
        let with_deleted = ListUsersRequest { show_deleted: true, ..Default::default() };
        assert_eq!(all(&world.service, page_size, with_deleted).await, [&living[..], &["9", "A"]].concat());
    }
}

#[tokio::test]
async fn a_prefix_ignores_case_and_matches_no_deleted_user() {
    let world = World::new().await;
    for name in ["Bob", "bo", "BOZO", "bn", "bp", "b", "bo_1", "gone"] {
        world.service.create(name).await;
    }
    delete(&world, "gone").await;
    for prefix in ["bo", "BO", "bO"] {
        for show_deleted in [false, true] {
            let asked = ListUsersRequest { username_prefix: prefix.to_owned(), show_deleted, ..Default::default() };
            assert_eq!(all(&world.service, 2, asked).await, ["bo", "bo_1", "Bob", "BOZO"]);
        }
    }
    let asked = ListUsersRequest { username_prefix: "gone".to_owned(), show_deleted: true, ..Default::default() };
    assert!(all(&world.service, 2, asked).await.is_empty());
}

#[tokio::test]
async fn page_sizes_have_a_default_and_a_limit() {
    let world = World::new().await;
    let mut connection = world.database.connect().await;
    sqlx::query(
        "INSERT INTO parlance_user.users
             (user_id, username, username_key, display_name, state, version, created_at, updated_at)
         SELECT 'u' || n, 'u' || n, 'u' || n, '', 'active', 1, now(), now() FROM generate_series(1, 1001) AS n",
    )
    .execute(&mut connection)
    .await
    .unwrap();
    for (page_size, got) in [(0, 50), (1, 1), (1_000, 1_000), (1_001, 1_000), (i32::MAX, 1_000)] {
        let response = page(&world.service, &ListUsersRequest { page_size, ..Default::default() }).await;
        assert_eq!(response.users.len(), got);
        assert!(!response.next_page_token.is_empty());
    }
    assert_eq!(all(&world.service, 1_000, ListUsersRequest::default()).await.len(), 1_001);
}

#[tokio::test]
async fn a_full_last_page_has_no_next_token() {
    let world = World::new().await;
    world.service.create("a").await;
    world.service.create("b").await;
    let response = page(&world.service, &ListUsersRequest { page_size: 2, ..Default::default() }).await;
    assert_eq!((ids(&response), &*response.next_page_token), (vec!["a", "b"], ""));
}

#[tokio::test]
async fn insertions_during_paging_neither_repeat_nor_hide_users() {
    let world = World::new().await;
    for name in ["b", "d", "f", "h"] {
        world.service.create(name).await;
    }
    let mut request = ListUsersRequest { page_size: 2, ..Default::default() };
    let first = page(&world.service, &request).await;
    assert_eq!(ids(&first), ["b", "d"]);

    for name in ["a", "c", "e", "g"] {
        world.service.create(name).await;
    }
    // The very user that the token points to is deleted.
    delete(&world, "d").await;
    request.page_token = first.next_page_token;
    let second = page(&world.service, &request).await;
    assert_eq!(ids(&second), ["e", "f"]);
    request.page_token = second.next_page_token;
    let third = page(&world.service, &request).await;
    assert_eq!((ids(&third), &*third.next_page_token), (vec!["g", "h"], ""));
}

#[tokio::test]
async fn a_page_token_is_valid_on_every_replica_and_for_other_sizes() {
    let world = World::new().await;
    for name in ["a", "b", "c"] {
        world.service.create(name).await;
    }
    let replica = RunningUserService::start(&world.database).await;
    let first = page(&world.service, &ListUsersRequest { page_size: 1, ..Default::default() }).await;
    let request = ListUsersRequest { page_size: 10, page_token: first.next_page_token, ..Default::default() };
    assert_eq!(ids(&page(&replica, &request).await), ["b", "c"]);
}

#[tokio::test]
async fn a_page_token_is_bound_to_its_arguments_and_cannot_be_forged() {
    let world = World::new().await;
    for name in ["a1", "a2", "a3"] {
        world.service.create(name).await;
    }
    let asked = ListUsersRequest { page_size: 1, username_prefix: "a".to_owned(), ..Default::default() };
    let token = page(&world.service, &asked).await.next_page_token;
    let with = |page_token: String| ListUsersRequest { page_token, ..asked.clone() };

    let mut tampered = token.clone().into_bytes();
    let last = tampered.len() - 1;
    tampered[last] = if tampered[last] == b'A' { b'Q' } else { b'A' };
    let tampered = String::from_utf8(tampered).unwrap();
    let mut longer = token.clone();
    longer.push_str("AAAA");

    let bad = [
        with(tampered),
        with(longer),
        with("x".to_owned()),
        with("\0".to_owned()),
        with("y".repeat(5_000)),
        ListUsersRequest { username_prefix: String::new(), ..with(token.clone()) },
        ListUsersRequest { username_prefix: "a1".to_owned(), ..with(token.clone()) },
        ListUsersRequest { show_deleted: true, ..with(token.clone()) },
    ];
    for request in bad {
        let answer = world.service.users().list_users(request).await;
        refused(answer, Code::InvalidArgument, "PAGE_TOKEN_INVALID");
    }
    assert_eq!(ids(&page(&world.service, &with(token)).await), ["a2"]);
}

#[tokio::test]
async fn a_page_token_of_another_installation_is_refused() {
    let world = World::new().await;
    let elsewhere = TestDatabase::empty().await;
    let other = RunningUserService::start(&elsewhere).await;
    for service in [&world.service, &other] {
        service.create("a").await;
        service.create("b").await;
    }
    let first = page(&other, &ListUsersRequest { page_size: 1, ..Default::default() }).await;
    let request = ListUsersRequest { page_token: first.next_page_token, ..Default::default() };
    refused(world.service.users().list_users(request).await, Code::InvalidArgument, "PAGE_TOKEN_INVALID");
}

#[tokio::test]
async fn all_violations_are_reported_at_once() {
    let world = World::new().await;
    let bad = ListUsersRequest { page_size: -1, username_prefix: "a~".to_owned(), ..Default::default() };
    let status = refused(world.service.users().list_users(bad).await, Code::InvalidArgument, "INVALID_ARGUMENT");
    assert_eq!(violated_fields(&status), ["page_size", "username_prefix"]);

    let edge = ListUsersRequest { username_prefix: "x".repeat(64), ..Default::default() };
    page(&world.service, &edge).await;
    for prefix in ["x".repeat(65), "a\0".to_owned()] {
        let bad = ListUsersRequest { username_prefix: prefix, ..Default::default() };
        let status = refused(world.service.users().list_users(bad).await, Code::InvalidArgument, "INVALID_ARGUMENT");
        assert_eq!(violated_fields(&status), ["username_prefix"]);
    }
}
