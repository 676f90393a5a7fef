//! `UpdateUser`: masks, etags, names that change owners.

use futures_util::future::join_all;
use parlance::user::v1::{DeleteUserRequest, UpdateUserRequest, User};
use tonic::{Code, Status};

use super::{World, by_name};
use crate::support::{metadata, preconditions, refused, violated_fields};

fn user(user_id: &str, username: &str, display_name: &str) -> User {
    User {
        user_id: user_id.to_owned(),
        username: username.to_owned(),
        display_name: display_name.to_owned(),
        ..User::default()
    }
}

/// `mask` is a list of paths; an empty one is no mask.
fn request(user: User, mask: &[&str]) -> UpdateUserRequest {
    let mut request = UpdateUserRequest { user: Some(user), ..UpdateUserRequest::default() };
    if !mask.is_empty() {
        request.update_mask.get_or_insert_default().paths = mask.iter().map(|&path| path.to_owned()).collect();
    }
    request
}

async fn update(world: &World, user: User, mask: &[&str]) -> Result<User, Status> {
    world.service.users().update_user(request(user, mask)).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn the_update_mask_selects_the_changed_fields() {
    let world = World::new().await;
    world.service.create("u").await;
    for (given, mask, username, display_name) in [
        (user("u", "Ann", "A"), &[][..], "Ann", "A"),
        (user("u", "", "B"), &[], "Ann", "B"),
        (user("u", "Bea", ""), &[], "Bea", "B"),
        (user("u", "Cat", "C"), &["username"], "Cat", "B"),
        (user("u", "Dan", "D"), &["display_name"], "Cat", "D"),
        (user("u", "", ""), &["display_name"], "Cat", ""),
        (user("u", "Eve", "E"), &["*"], "Eve", "E"),
        (user("u", "Fay", ""), &["*"], "Fay", ""),
        (user("u", "Gus", "G"), &["username", "display_name", "username"], "Gus", "G"),
        // A name outside the mask is not validated.
        (user("u", "not a name", "H"), &["display_name"], "Gus", "H"),
        (user("u", "", ""), &[], "Gus", "H"),
    ] {
        let answer = update(&world, given, mask).await.unwrap();
        assert_eq!((&*answer.username, &*answer.display_name), (username, display_name), "{mask:?}");
        assert_eq!(world.get("u").await, answer);
    }
}

#[tokio::test]
async fn all_violations_are_reported_at_once() {
    let world = World::new().await;
    world.service.create("u").await;
    let mut with_etag = user("u", "", "x");
    with_etag.etag = "\0".to_owned();
    for (given, mask, fields) in [
        (user("~", "a b", &"x".repeat(257)), &[][..], &["user.user_id", "user.username", "user.display_name"][..]),
        (user("u", "", ""), &["username"], &["user.username"]),
        (user("u", "", ""), &["*"], &["user.username"]),
        (user("u", "x", ""), &["user_id"], &["update_mask.paths[0]"]),
        (user("u", "x", ""), &["username", "state", "etag"], &["update_mask.paths[1]", "update_mask.paths[2]"]),
        (user("", "x", "a\0"), &[], &["user.user_id", "user.display_name"]),
        (with_etag, &[], &["user.etag"]),
    ] {
        let status = refused(update(&world, given, mask).await, Code::InvalidArgument, "INVALID_ARGUMENT");
        assert_eq!(violated_fields(&status), fields);
    }
    let answer = world.service.users().update_user(UpdateUserRequest::default()).await;
    let status = refused(answer, Code::InvalidArgument, "INVALID_ARGUMENT");
    assert_eq!(violated_fields(&status), ["user.user_id"]);
}

#[tokio::test]
async fn an_etag_changes_with_every_change_and_a_stale_one_is_refused() {
    let world = World::new().await;
    let first = world.service.create("u").await;
    let second = update(&world, user("u", "", "new"), &[]).await.unwrap();
    assert_ne!(first.etag, second.etag);
    assert!(first.update_time.unwrap().seconds <= second.update_time.unwrap().seconds);
    assert_eq!(first.create_time, second.create_time);

    // An update without a change changes nothing.
    assert_eq!(update(&world, user("u", "", "new"), &[]).await.unwrap(), second);

    for stale in [&*first.etag, "\"never given\"", "x", "\"\"", second.etag.trim_matches('"')] {
        let given = User { etag: stale.to_owned(), ..user("u", "", "newer") };
        let status = refused(update(&world, given, &[]).await, Code::Aborted, "ETAG_MISMATCH");
        assert_eq!(metadata(&status, "user_id"), "u");
    }
    let given = User { etag: second.etag.clone(), ..user("u", "", "newer") };
    let third = update(&world, given, &[]).await.unwrap();
    assert_eq!(third.display_name, "newer");

    let deactivated = world.service.users().deactivate_user(super::deactivate_user::request("u")).await.unwrap();
    assert_ne!(deactivated.into_inner().etag, third.etag);
}

#[tokio::test]
async fn of_concurrent_updates_with_one_etag_one_succeeds() {
    let world = World::new().await;
    let before = world.service.create("u").await;
    let calls = (0..8).map(|caller| {
        let given = User { etag: before.etag.clone(), ..user("u", "", &format!("name {caller}")) };
        update(&world, given, &[])
    });
    let (won, lost): (Vec<_>, Vec<_>) = join_all(calls).await.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 7));
    for answer in lost {
        refused(answer, Code::Aborted, "ETAG_MISMATCH");
    }
}

#[tokio::test]
async fn a_username_is_taken_until_it_is_given_up() {
    let world = World::new().await;
    world.service.create("a").await;
    world.service.create("b").await;
    let status = refused(update(&world, user("b", "A", ""), &[]).await, Code::AlreadyExists, "USERNAME_TAKEN");
    assert_eq!(metadata(&status, "username"), "A");

    // The user's own name in another case is no conflict.
    assert_eq!(update(&world, user("a", "A", ""), &[]).await.unwrap().username, "A");
    update(&world, user("a", "c", ""), &[]).await.unwrap();
    update(&world, user("b", "a", ""), &[]).await.unwrap();
    let answer = world.service.users().get_user(by_name("A")).await.unwrap().into_inner();
    assert_eq!(answer.user_id, "b");
}

#[tokio::test]
async fn concurrent_swaps_of_usernames_do_not_deadlock() {
    let world = World::new().await;
    world.service.create("a").await;
    world.service.create("b").await;
    for _ in 0..5 {
        let (one, other) =
            tokio::join!(update(&world, user("a", "b", ""), &[]), update(&world, user("b", "a", ""), &[]));
        for answer in [one, other] {
            refused(answer, Code::AlreadyExists, "USERNAME_TAKEN");
        }
    }
}

#[tokio::test]
async fn an_unknown_or_deleted_user_cannot_be_updated() {
    let world = World::new().await;
    let status = refused(update(&world, user("missing", "x", ""), &[]).await, Code::NotFound, "USER_NOT_FOUND");
    assert_eq!(metadata(&status, "user_ids"), "missing");

    world.service.create("gone").await;
    let request = DeleteUserRequest { user_id: "gone".to_owned(), ..Default::default() };
    world.service.users().delete_user(request).await.unwrap();
    let status = refused(update(&world, user("gone", "x", ""), &[]).await, Code::FailedPrecondition, "USER_DELETED");
    assert_eq!((metadata(&status, "user_ids"), preconditions(&status)), ("gone".to_owned(), vec!["gone".to_owned()]));
}
