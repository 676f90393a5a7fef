//! `WatchUsers`: every change from `ready` on, whichever replica made it.

use std::time::{Duration, Instant};

use parlance::user::v1::{
    DeleteUserRequest, ReactivateUserRequest, UpdateUserRequest, User, UserState, WatchUsersRequest,
    WatchUsersResponse, watch_users_response::Item,
};
use sqlx::Executor;
use tokio::time::timeout;
use tonic::{Code, Status, Streaming};

use super::{World, deactivate_user};
use crate::support::{
    Mode, PATIENCE, Proxy, RunningUserService, TestDatabase, refused, retry_delay, user_service_config,
};

/// A subscriber of user changes.
struct Watch(Streaming<WatchUsersResponse>);

impl Watch {
    async fn open(service: &RunningUserService) -> Self {
        Self(service.users().watch_users(WatchUsersRequest {}).await.unwrap().into_inner())
    }

    /// Subscribes, and waits until changes are delivered.
    async fn ready(service: &RunningUserService) -> Self {
        let mut watch = Self::open(service).await;
        let first = watch.next().await.unwrap();
        assert!(matches!(first, Item::Ready(_)), "{first:?}");
        watch
    }

    async fn next(&mut self) -> Result<Item, Status> {
        let item = timeout(PATIENCE, self.0.message()).await.expect("a response in time")?;
        Ok(item.expect("a status at the end").item.expect("an item has a kind"))
    }

    /// Receives the next change.
    async fn change(&mut self) -> User {
        loop {
            match self.next().await.unwrap() {
                Item::ChangedUser(user) => return user,
                Item::Heartbeat(_) => {}
                other @ (Item::Ready(_) | Item::TokenExpiring(_)) => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn every_change_of_a_user_is_delivered_in_order() {
    let World { service, database } = World::new().await;
    let other = RunningUserService::start(&database).await;
    service.create("before").await;
    let (mut here, mut there) = (Watch::ready(&service).await, Watch::ready(&other).await);

    let mut users = service.users();
    let created = service.create("u").await;
    let rename = User { user_id: "u".to_owned(), display_name: "U".to_owned(), ..User::default() };
    for watch in [&mut here, &mut there] {
        assert_eq!(watch.change().await, created);
    }
    let updated = users.update_user(UpdateUserRequest { user: Some(rename), update_mask: None }).await;
    let updated = updated.unwrap().into_inner();
    for watch in [&mut here, &mut there] {
        assert_eq!(watch.change().await, updated);
    }
    let deactivated = users.deactivate_user(deactivate_user::request("u")).await.unwrap().into_inner();
    // Repeating it is no change.
    users.deactivate_user(deactivate_user::request("u")).await.unwrap();
    for watch in [&mut here, &mut there] {
        assert_eq!(watch.change().await, deactivated);
    }
    let request = ReactivateUserRequest { user_id: "u".to_owned() };
    let reactivated = users.reactivate_user(request).await.unwrap().into_inner();
    for watch in [&mut here, &mut there] {
        assert_eq!(watch.change().await, reactivated);
    }
    let request = DeleteUserRequest { user_id: "u".to_owned(), ..DeleteUserRequest::default() };
    let deleted = users.delete_user(request).await.unwrap().into_inner();
    for watch in [&mut here, &mut there] {
        let received = watch.change().await;
        assert_eq!((received.state(), &*received.username), (UserState::Deleted, ""));
        assert_eq!(received, deleted);
    }
}

#[tokio::test]
async fn rapid_changes_are_delivered_up_to_the_last_and_never_backwards() {
    let World { service, database } = World::new().await;
    let other = RunningUserService::start(&database).await;
    let mut watch = Watch::ready(&other).await;
    let mut last = service.create("u").await;
    for number in 0..100 {
        let user = User { user_id: "u".to_owned(), display_name: number.to_string(), ..User::default() };
        let request = UpdateUserRequest { user: Some(user), update_mask: None };
        last = service.users().update_user(request).await.unwrap().into_inner();
    }
    let mut before = -1;
    loop {
        let received = watch.change().await;
        let number = received.display_name.parse().unwrap_or(-1);
        assert!(number >= before, "{number} after {before}");
        before = number;
        if received == last {
            return;
        }
    }
}

#[tokio::test]
async fn a_change_reaches_another_replica_soon() {
    let World { service, database } = World::new().await;
    let other = RunningUserService::start(&database).await;
    let mut watch = Watch::ready(&other).await;
    let mut delays = Vec::new();
    for number in 0..10 {
        let user = service.create(&format!("u{number}")).await;
        let created = Instant::now();
        assert_eq!(watch.change().await, user);
        delays.push(created.elapsed());
    }
    // The median: a machine that is busy with other tests may be slow occasionally.
    delays.sort_unstable();
    assert!(delays[5] < Duration::from_millis(500), "{delays:?}");
}

#[tokio::test]
async fn a_late_subscriber_is_ready_soon_and_receives_the_same_changes() {
    let World { service, database: _database } = World::new().await;
    let mut first = Watch::ready(&service).await;
    let mut second = Watch::ready(&service).await;
    let user = service.create("u").await;
    assert_eq!((first.change().await, second.change().await), (user.clone(), user));
}

#[tokio::test]
async fn a_transaction_that_commits_late_is_still_delivered() {
    const INSERT: &str = "
        INSERT INTO parlance_user.users
            (user_id, username, username_key, display_name, state, version, created_at, updated_at)
        VALUES ('late', 'late', 'late', '', 'active', 1, now(), now())";
    let World { service, database } = World::new().await;
    let mut watch = Watch::ready(&service).await;
    let mut late = database.connect().await;
    late.execute("BEGIN").await.unwrap();
    late.execute(INSERT).await.unwrap();
    for name in ["a", "b", "c"] {
        service.create(name).await;
        assert_eq!(watch.change().await.user_id, name);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    late.execute("COMMIT").await.unwrap();
    assert_eq!(watch.change().await.user_id, "late");
}

#[tokio::test]
async fn too_many_changes_are_reported_as_a_gap() {
    const INSERT: &str = "
        INSERT INTO parlance_user.users
            (user_id, username, username_key, display_name, state, version, created_at, updated_at)
        SELECT 'u' || n, 'u' || n, 'u' || n, '', 'active', 1, now(), now() FROM generate_series(1, 1001) AS n";
    let World { service, database } = World::new().await;
    let mut watch = Watch::ready(&service).await;
    database.connect().await.execute(INSERT).await.unwrap();
    let received = watch.next().await.unwrap();
    assert!(matches!(received, Item::Ready(_)), "{received:?}");
    service.create("after").await;
    assert_eq!(watch.change().await.user_id, "after");
}

#[tokio::test]
async fn outbox_rows_restored_from_another_server_are_not_delivered_repeatedly() {
    const RESTORED: &str = "
        INSERT INTO parlance_user.outbox (xact_id, user_id)
        SELECT '4000000000000'::xid8, 'u' || n FROM generate_series(1, 1001) AS n";
    let World { service, database } = World::new().await;
    database.connect().await.execute(RESTORED).await.unwrap();
    let mut watch = Watch::ready(&service).await;
    for name in ["after", "later"] {
        service.create(name).await;
        assert_eq!(watch.change().await.user_id, name);
    }
}

#[tokio::test]
async fn an_idle_watch_sends_heartbeats() {
    let World { service, database: _database } = World::new().await;
    let mut watch = Watch::ready(&service).await;
    let since = Instant::now();
    for _ in 0..2 {
        let received = watch.next().await.unwrap();
        assert!(matches!(received, Item::Heartbeat(_)), "{received:?}");
    }
    assert!(since.elapsed() > Duration::from_secs(8), "{:?}", since.elapsed());
}

#[tokio::test]
async fn a_database_outage_stops_heartbeats_and_loses_no_change() {
    let database = TestDatabase::migrated().await;
    let elsewhere = RunningUserService::start(&database).await;
    let proxy = Proxy::start(Mode::Open).await;
    let service = RunningUserService::launch(user_service_config(&database.url_through(proxy.port()), &[])).await;
    service.wait_until_serving().await;
    let mut watch = Watch::ready(&service).await;
    proxy.set(Mode::Closed);
    let user = elsewhere.create("u").await;
    assert!(timeout(Duration::from_secs(7), watch.0.message()).await.is_err());
    proxy.set(Mode::Open);
    assert_eq!(watch.change().await, user);
}

#[tokio::test]
async fn a_drain_ends_a_watch_with_a_retry_delay() {
    let World { service, database: _database } = World::new().await;
    let mut watch = Watch::ready(&service).await;
    service.stop().await.unwrap();
    let status = refused(watch.next().await, Code::Unavailable, "DRAINING");
    assert!(retry_delay(&status).is_some());
}

#[tokio::test]
async fn a_watch_is_refused_before_the_service_is_ready() {
    let database = TestDatabase::migrated().await;
    let proxy = Proxy::start(Mode::Closed).await;
    let service = RunningUserService::launch(user_service_config(&database.url_through(proxy.port()), &[])).await;
    let answer = service.users().watch_users(WatchUsersRequest {}).await;
    refused(answer, Code::Unavailable, "DATABASE_UNAVAILABLE");
}
