//! user-service is down: cached users continue, unknown ones are refused with a retry delay and nothing is stored;
//! reads and streams continue.

use std::time::{Duration, Instant};

use tonic::Code;

use crate::support::{
    Mode, PATIENCE, Process, Proxy, Reader, RunningMessageService, RunningUserService, TestDatabase, World,
    code_and_reason, eventually, message_service_config, refused, retry_delay, send,
};

/// A world whose message-service reaches user-service through a proxy.
async fn world(flags: &[&str]) -> (World, Proxy) {
    let (world, proxy) = World::with_proxied_user_service(flags).await;
    world.users(&["ann", "ben", "cat"]).await;
    settle().await;
    world.create(crate::support::channel("news", "ann", &["ben"])).await;
    (world, proxy)
}

/// Waits for the change notifications of new users to arrive: they make message-service drop its cached answers.
async fn settle() {
    tokio::time::sleep(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn cached_users_continue_and_unknown_ones_are_refused_with_nothing_stored() {
    // Without caching: each call asks user-service, and falls back.
    let (world, proxy) = world(&["--directory-fresh", "1ms"]).await;
    let mut reader = Reader::open(&world.messages(), "news", "ben", Some(0)).await.unwrap();
    reader.catch_up().await;
    proxy.set(Mode::Closed);

    let sent = world.send("news", "ann", "still here").await;
    assert_eq!(reader.event().await.sequence, sent.sequence);
    assert_eq!(world.log("news", "ben").await.len(), 3);

    // Cat is active, but not cached here.
    for _ in 0..3 {
        let status =
            refused(world.try_send(send("news", "cat", "x")).await, Code::Unavailable, "USER_SERVICE_UNAVAILABLE");
        assert!(retry_delay(&status).is_some());
    }
    let status = refused(world.conversation("news", "cat").await, Code::Unavailable, "USER_SERVICE_UNAVAILABLE");
    assert!(retry_delay(&status).is_some());
    let join = world.add("news", "cat", &["cat"], parlance::message::v1::MemberRole::Member).await;
    refused(join, Code::Unavailable, "USER_SERVICE_UNAVAILABLE");
    let new = world.conversations().create_conversation(crate::support::group("new", "ann", &["cat"])).await;
    refused(new, Code::Unavailable, "USER_SERVICE_UNAVAILABLE");
    assert_eq!(world.log("news", "ann").await.len(), 3);

    proxy.set(Mode::Open);
    let back = eventually(PATIENCE, || world.conversation("news", "cat")).await;
    assert_eq!(back.last_sequence, 3);
    world.add("news", "cat", &["cat"], parlance::message::v1::MemberRole::Member).await.unwrap();
    assert_eq!(world.send("news", "cat", "here I am").await.sequence, 5);
    assert_eq!(reader.up_to(5).await.len(), 2);
}

#[tokio::test]
async fn a_cached_answer_is_used_up_to_the_fallback_ttl() {
    let (world, proxy) = world(&["--directory-fresh", "1ms", "--directory-stale", "1500ms"]).await;
    world.send("news", "ann", "x").await;
    proxy.set(Mode::Closed);
    world.send("news", "ann", "within it").await;
    eventually(PATIENCE, || async {
        match world.try_send(send("news", "ann", "x")).await {
            Ok(_) => Err("still accepted"),
            Err(status) => {
                assert_eq!(code_and_reason(&status), (Code::Unavailable, "USER_SERVICE_UNAVAILABLE".to_owned()));
                Ok(())
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_deactivated_user_is_refused_within_the_cache_ttl() {
    let (world, _proxy) = world(&["--directory-fresh", "300ms"]).await;
    world.send("news", "ben", "while active").await;
    world.deactivate("ben").await;
    let since = Instant::now();
    let status = eventually(PATIENCE, || async {
        let answer = world.try_send(send("news", "ben", "x")).await;
        // A send accepted later than this is a fault.
        if answer.is_ok() {
            assert!(since.elapsed() < Duration::from_secs(5), "accepted {:?} after", since.elapsed());
        }
        answer.map(drop).map_or_else(Ok, |()| Err("still accepted"))
    })
    .await;
    assert_eq!(code_and_reason(&status), (Code::FailedPrecondition, "USER_DEACTIVATED".to_owned()));

    let request = parlance::user::v1::ReactivateUserRequest { user_id: "ben".to_owned() };
    world.user_service.users().reactivate_user(request).await.unwrap();
    eventually(PATIENCE, || world.try_send(send("news", "ben", "back"))).await;
}

#[tokio::test]
async fn a_user_created_after_a_failed_lookup_is_known_soon() {
    let (world, _proxy) = world(&[]).await;
    refused(world.conversation("news", "dan").await, Code::NotFound, "USER_NOT_FOUND");
    world.users(&["dan"]).await;
    eventually(PATIENCE, || world.conversation("news", "dan")).await;
}

#[tokio::test]
async fn message_service_survives_a_kill_and_restart_of_user_service() {
    let database = TestDatabase::migrated().await;
    let mut first = Process::user_service(&database.url()).await;
    let keeper = RunningUserService::start(&database).await;
    for name in ["ann", "ben"] {
        keeper.create(name).await;
    }
    let proxy = Proxy::before(first.address().to_string(), Mode::Open).await;
    let config =
        message_service_config(&database.url(), &format!("127.0.0.1:{}", proxy.port()), &["--directory-fresh", "1ms"]);
    let message_service = RunningMessageService::start(config).await;
    let world = World { message_service, user_service: keeper, database };
    settle().await;
    world.create(crate::support::group("g", "ann", &[])).await;
    first.kill();
    world.send("g", "ann", "still here").await;
    refused(world.conversation("g", "ben").await, Code::Unavailable, "USER_SERVICE_UNAVAILABLE");
    // At another port, behind the same address.
    proxy.redirect_to(world.user_service.address().to_string());
    let answer = eventually(PATIENCE, || async {
        match world.conversation("g", "ben").await {
            Err(status) if status.code() == Code::Unavailable => Err(status),
            other => Ok(other),
        }
    })
    .await;
    refused(answer, Code::NotFound, "CONVERSATION_NOT_FOUND");
}
