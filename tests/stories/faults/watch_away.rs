//! message-service follows the changes of users: answers are good for long, and a change counts at once everywhere; when it
//! cannot follow, answers are good for two seconds.

use std::time::{Duration, Instant};

use parlance::user::v1::{ReactivateUserRequest, UserState};
use tonic::Code;

use crate::support::{
    Mode, PATIENCE, Proxy, RunningMessageService, RunningUserService, TestDatabase, World, channel, code_and_reason,
    eventually, message_service_config, refused, send,
};

/// A world whose message-service reaches user-service through a proxy. Answers are good for 30 s by default, so whatever is
/// noticed sooner was told.
async fn world(flags: &[&str]) -> (World, Proxy) {
    let database = TestDatabase::migrated().await;
    let user_service = RunningUserService::start(&database).await;
    let proxy = Proxy::before(user_service.address().to_string(), Mode::Open).await;
    let config = message_service_config(&database.url(), &format!("127.0.0.1:{}", proxy.port()), flags);
    let message_service = RunningMessageService::start(config).await;
    let world = World { message_service, user_service, database };
    world.users(&["ann", "ben"]).await;
    world.create(channel("news", "ann", &["ben"])).await;
    (world, proxy)
}

/// Sends until it is refused; gives the code, the reason and how long that took.
async fn until_refused(world: &World, sender_id: &str) -> (Code, String, Duration) {
    let since = Instant::now();
    let status = eventually(PATIENCE, || async {
        let answer = world.try_send(send("news", sender_id, "x")).await;
        answer.map(drop).map_or_else(Ok, |()| Err("still accepted"))
    })
    .await;
    let (code, reason) = code_and_reason(&status);
    (code, reason, since.elapsed())
}

/// Waits until changes have been told of: a user who was asked for in vain is known at once when it is made.
async fn until_followed(world: &World) {
    let number = std::sync::atomic::AtomicU32::new(0);
    eventually(PATIENCE, || async {
        let name = format!("probe-{}", number.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        refused(world.conversation("news", &name).await, Code::NotFound, "USER_NOT_FOUND");
        world.users(&[&name]).await;
        tokio::time::sleep(Duration::from_millis(700)).await;
        world.conversation("news", &name).await
    })
    .await;
}

#[tokio::test]
async fn what_happens_to_a_user_counts_at_once_although_answers_are_good_for_long() {
    let (world, _proxy) = world(&[]).await;
    until_followed(&world).await;
    let elsewhere = RunningUserService::start(&world.database).await;
    for round in 0..3 {
        eventually(PATIENCE, || world.try_send(send("news", "ben", "while active"))).await;
        // At another replica than the one that tells.
        let request = parlance::user::v1::DeactivateUserRequest { user_id: "ben".to_owned() };
        elsewhere.users().deactivate_user(request).await.unwrap();
        let (code, reason, took) = until_refused(&world, "ben").await;
        assert_eq!((code, &*reason), (Code::FailedPrecondition, "USER_DEACTIVATED"));
        assert!(took < Duration::from_secs(2), "round {round}: {took:?}");

        let request = ReactivateUserRequest { user_id: "ben".to_owned() };
        let user = elsewhere.users().reactivate_user(request).await.unwrap().into_inner();
        assert_eq!(user.state(), UserState::Active);
        let since = Instant::now();
        eventually(PATIENCE, || world.try_send(send("news", "ben", "back"))).await;
        assert!(since.elapsed() < Duration::from_secs(2), "round {round}: {:?}", since.elapsed());
    }
    world.delete_user("ben").await;
    let (code, reason, took) = until_refused(&world, "ben").await;
    assert_eq!((code, &*reason), (Code::FailedPrecondition, "USER_DELETED"));
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test]
async fn a_user_asked_for_just_before_it_is_made_is_known_right_after() {
    let (world, _proxy) = world(&[]).await;
    until_followed(&world).await;
    let mut delays = Vec::new();
    for number in 0..5 {
        let name = format!("new-{number}");
        refused(world.conversation("news", &name).await, Code::NotFound, "USER_NOT_FOUND");
        world.users(&[&name]).await;
        let since = Instant::now();
        eventually(PATIENCE, || world.conversation("news", &name)).await;
        delays.push(since.elapsed());
    }
    delays.sort_unstable();
    assert!(delays[2] < Duration::from_secs(1), "{delays:?}");
}

#[tokio::test]
async fn when_changes_cannot_be_followed_answers_are_good_for_two_seconds() {
    let (world, proxy) = world(&[]).await;
    until_followed(&world).await;
    world.send("news", "ben", "while active").await;
    proxy.set(Mode::Closed);
    // Nobody tells, nobody answers: the last answer holds.
    world.deactivate("ben").await;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    world.send("news", "ben", "nobody knows better").await;
    proxy.set(Mode::Open);
    let (code, reason, took) = until_refused(&world, "ben").await;
    assert_eq!((code, &*reason), (Code::FailedPrecondition, "USER_DEACTIVATED"));
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[tokio::test]
async fn a_watch_that_falls_silent_is_noticed_and_answers_are_not_good_for_long_any_more() {
    // Nothing but freshness to go by.
    let (world, proxy) = world(&["--directory-stale", "1ms"]).await;
    until_followed(&world).await;
    world.send("news", "ben", "while active").await;
    proxy.set(Mode::Silent);
    world.deactivate("ben").await;
    let (code, reason, took) = until_refused(&world, "ben").await;
    assert_eq!((code, &*reason), (Code::Unavailable, "USER_SERVICE_UNAVAILABLE"));
    // Ten seconds of silence, and one call in vain.
    assert!(took < Duration::from_secs(18), "{took:?}");
}
