//! message-service watches the changes of users: answers are cached for long, and a change takes effect at once
//! everywhere; without the watch, answers are cached for two seconds.

use std::time::{Duration, Instant};

use parlance::user::v1::{ReactivateUserRequest, UserState};
use tonic::Code;

use crate::support::{
    Mode, PATIENCE, Proxy, RunningUserService, World, channel, code_and_reason, eventually, refused, send,
};

/// A world whose message-service reaches user-service through a proxy. Answers are cached for 30 s by default, so a
/// change noticed sooner came from a notification.
async fn world(flags: &[&str]) -> (World, Proxy) {
    let (world, proxy) = World::with_proxied_user_service(flags).await;
    world.users(&["ann", "ben"]).await;
    world.create(channel("news", "ann", &["ben"])).await;
    (world, proxy)
}

/// Sends until refused; returns the code, the reason and the time it took.
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

/// Waits until the watch works: a user looked up in vain is known at once after its creation.
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
async fn a_user_change_takes_effect_at_once_despite_a_long_cache_ttl() {
    let (world, _proxy) = world(&[]).await;
    until_followed(&world).await;
    let elsewhere = RunningUserService::start(&world.database).await;
    for round in 0..3 {
        eventually(PATIENCE, || world.try_send(send("news", "ben", "while active"))).await;
        // At a replica other than the one that sends notifications.
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
async fn a_user_created_right_after_a_failed_lookup_is_known_at_once() {
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
async fn without_change_notifications_the_cache_ttl_is_two_seconds() {
    let (world, proxy) = world(&[]).await;
    until_followed(&world).await;
    world.send("news", "ben", "while active").await;
    proxy.set(Mode::Closed);
    // Neither notifications nor answers: the cached answer holds.
    world.deactivate("ben").await;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    world.send("news", "ben", "before the notification").await;
    proxy.set(Mode::Open);
    let (code, reason, took) = until_refused(&world, "ben").await;
    assert_eq!((code, &*reason), (Code::FailedPrecondition, "USER_DEACTIVATED"));
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[tokio::test]
async fn a_silent_watch_is_detected_and_shortens_the_cache_ttl() {
    // Only the cache TTL limits the age of the answer.
    let (world, proxy) = world(&["--directory-stale", "1ms"]).await;
    until_followed(&world).await;
    world.send("news", "ben", "while active").await;
    proxy.set(Mode::Silent);
    world.deactivate("ben").await;
    let (code, reason, took) = until_refused(&world, "ben").await;
    assert_eq!((code, &*reason), (Code::Unavailable, "USER_SERVICE_UNAVAILABLE"));
    // Ten seconds of silence, and one failed call.
    assert!(took < Duration::from_secs(18), "{took:?}");
}
