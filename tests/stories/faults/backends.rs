//! Backend connections are killed under load, again and again: clients hear at most of a retry, and nothing is lost or
//! doubled.

use tokio::sync::watch;

use super::load::{Load, check, read_logs};
use crate::support::{Reader, World, channel_to, group};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_killed_under_load_lose_nothing() {
    let world = World::with(&["--writers", "2"]).await;
    world.users(&["ann", "ben"]).await;
    for id in ["g", "h", "i"] {
        world.create(group(id, "ann", &["ben"])).await;
    }
    let mut reader = Reader::open(&world.messages(), "g", "ben", Some(0)).await.unwrap();
    let (_moving, at) = watch::channel(channel_to(world.message_service.address()));
    let load = Load::begin("load", 24, &["g", "h", "i"], &at);
    let mut outside = world.database.connect().await;
    for _ in 0..15 {
        load.more(30).await;
        let (killed,): (i64,) = sqlx::query_as(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
             WHERE datname = current_database() AND application_name LIKE 'parlance%' AND pid <> pg_backend_pid()",
        )
        .fetch_one(&mut outside)
        .await
        .unwrap();
        assert!(killed > 0);
    }
    load.more(30).await;
    let account = load.end().await;
    let logs = read_logs(&world.messages(), &["g", "h", "i"]).await;
    check(&logs, &account, &["load"]);
    assert_eq!(reader.up_to(logs[0].len() as i64).await, logs[0]);
}
