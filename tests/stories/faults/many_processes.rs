//! Several processes on one database: they race for the same requests, and they start at the same time.

use std::time::Duration;

use futures_util::future::join_all;
use parlance_checker::{Recorder, Violation};
use tokio::sync::watch;

use super::load::{Internal, Load, Subscriber, check_history, read_logs};
use crate::support::{
    Process, RunningUserService, TestDatabase, World, channel_to, group, read_log, send_as, user_service_config,
};

/// Sends the same requests at two processes at the same time, so many at each, after running `prepare` in the database;
/// returns the number of requests that both acknowledged, and every broken promise.
pub(super) async fn send_concurrently(
    prepare: Option<&str>,
    count: usize,
    patience: Duration,
) -> (usize, Vec<Violation>) {
    let world = World::new().await;
    world.users(&["ann", "ben"]).await;
    for id in ["g", "h"] {
        world.create(group(id, "ann", &["ben"])).await;
    }
    if let Some(prepare) = prepare {
        let prepare = sqlx::AssertSqlSafe(prepare.to_owned());
        sqlx::raw_sql(prepare).execute(&mut world.database.connect().await).await.unwrap();
    }
    let (url, users) = (world.database.url(), world.user_service.address().to_string());
    let processes =
        [Process::message_service(&url, &users, &[]).await, Process::message_service(&url, &users, &[]).await];
    let recorder = Recorder::default();
    let (mut loads, mut subscribers) = (Vec::new(), Vec::new());
    for (process, id) in processes.iter().zip(["g", "h"]) {
        let (moving, at) = watch::channel(channel_to(process.address()));
        subscribers.push((id, Subscriber::begin(&recorder, "ben", id, &at)));
        // A request id that was stored twice is an internal error from then on.
        let internal = if prepare.is_some() { Internal::GivesUp } else { Internal::Fails };
        loads.push((Load::begin_with(&recorder, "load", 12, &["g", "h"], &at, internal), moving));
    }
    for (load, _) in &loads {
        load.wait_for_long(count).await;
    }
    let accounts = join_all(loads.into_iter().map(|(load, _)| load.end())).await;
    let both = accounts[0].keys().filter(|id| accounts[1].contains_key(*id)).count();
    assert!(both >= count, "only {both} requests were made at both");
    let logs = read_logs(&world.messages(), &["g", "h"]).await;
    (both, check_history(&recorder, subscribers, &logs, patience).await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_processes_starting_on_an_empty_database_migrate_once_and_serve() {
    let database = TestDatabase::empty().await;
    let user_service = RunningUserService::launch(user_service_config(&database.url(), &[])).await;
    user_service.wait_until_serving().await;
    user_service.create("ann").await;
    let (url, address) = (database.url(), user_service.address().to_string());
    // Each writer and each pool opens its connections on first use.
    let flags = ["--writers", "1"];
    let processes = join_all((0..10).map(|_| Process::message_service(&url, &address, &flags))).await;
    for (number, process) in processes.iter().enumerate() {
        let id = format!("g{number}");
        process.conversations().create_conversation(group(&id, "ann", &[])).await.unwrap();
        let next = &processes[(number + 1) % 10];
        next.messages().send_message(send_as("r", &id, "ann", "x")).await.unwrap();
        assert_eq!(read_log(&mut process.messages(), &id, "ann", 10).await.len(), 2);
    }
    let history: Vec<(i32, i64)> = sqlx::query_as(
        "SELECT version, count(*) FROM parlance_message.schema_history GROUP BY version ORDER BY version",
    )
    .fetch_all(&mut database.connect().await)
    .await
    .unwrap();
    let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/message")).unwrap().count();
    assert_eq!(history, (1..=files as i32).map(|version| (version, 1)).collect::<Vec<_>>());
}
