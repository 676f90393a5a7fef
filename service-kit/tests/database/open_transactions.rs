//! Transactions that stay open while the outbox is read and trimmed.

use std::time::{Duration, Instant};

use service_kit::{
    database::{
        Database,
        outbox::{Position, Reader, Source, Trimmer},
    },
    lifecycle::Lifecycle,
};
use sqlx::{Executor, PgConnection};

use super::{Fresh, Names, PATIENCE, RETENTION, read, run};

#[tokio::test]
async fn rows_of_transactions_open_at_the_horizon_stay() {
    let fresh = Fresh::new("trim").await;
    let trimmer = fresh.trimmer();
    let mut late = fresh.open("late").await;
    let before_the_others = trimmer.horizon().await.unwrap();
    for name in ["a", "b", "c"] {
        fresh.insert(name).await;
    }
    let while_one_is_open = trimmer.horizon().await.unwrap();
    late.execute("COMMIT").await.unwrap();

    assert_eq!(trimmer.delete_below(&before_the_others).await.unwrap(), 0);
    assert_eq!(trimmer.delete_below(&while_one_is_open).await.unwrap(), 3, "all but the open one");
    assert_eq!(fresh.count("late").await, 1);
    let deadline = Instant::now() + PATIENCE;
    let mut deleted = 0;
    while deleted < 1 && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(50)).await;
        deleted += trimmer.delete_below(&trimmer.horizon().await.unwrap()).await.unwrap();
    }
    assert_eq!(deleted, 1);
    fresh.drop().await;
}

/// Returns the number of rows of the table that its own statistics count as read, by index or by scan.
async fn rows_read(connection: &mut PgConnection) -> i64 {
    run(connection, "SELECT pg_stat_clear_snapshot()".to_owned()).await;
    let read = "SELECT seq_tup_read + coalesce(idx_tup_fetch, 0) FROM pg_stat_user_tables WHERE relname = 'outbox'";
    sqlx::query_scalar(read).fetch_one(connection).await.unwrap()
}

#[tokio::test]
async fn an_open_transaction_makes_no_read_scan_what_was_read_before() {
    const ROWS: i64 = 20_000;
    let fresh = Fresh::new("held").await;
    let mut held = fresh.open("held").await;
    let (reader, mut position) = (fresh.reader(), fresh.begin().await);
    let fill = "INSERT INTO public.outbox (name) SELECT 'x' FROM generate_series(1, $1)";
    fresh.database.execute(sqlx::query(fill).bind(ROWS)).await.unwrap();
    fresh.insert("analyzed").await;
    let mut outside = fresh.settings.open().await.unwrap();
    run(&mut outside, "ANALYZE public.outbox".to_owned()).await;
    // Of no interest here; its rows stay, and so does the open transaction.
    position = reader.read(Some(&position)).await.unwrap().position.skip_rest();
    // Sessions report what they have read once they are idle for a second, or end.
    let counted = async |reads: usize, position: &mut Position, outside: &mut PgConnection| {
        let database = Database::new(fresh.settings.clone());
        let reader: Reader<Names> = Reader::new(database.clone(), RETENTION);
        let before = rows_read(outside).await;
        for n in 0..reads {
            fresh.insert(&format!("n{n}")).await;
            assert_eq!(read(&reader, position).await, (vec![format!("n{n}")], true));
        }
        database.close().await;
        let deadline = Instant::now() + PATIENCE;
        while rows_read(outside).await < before + reads as i64 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        rows_read(outside).await - before
    };
    let read_rows = counted(20, &mut position, &mut outside).await;
    assert!((20..1_000).contains(&read_rows), "{read_rows} rows are read to find 20 among {ROWS}");

    held.execute("COMMIT").await.unwrap();
    assert_eq!(read(&reader, &mut position).await, (vec!["held".to_owned()], true));
    fresh.drop().await;
}

#[tokio::test]
async fn rows_that_commit_late_are_trimmed_by_a_later_pass() {
    let fresh = Fresh::new("late_trim").await;
    let mut late = fresh.open("late").await;
    fresh.insert("a").await;
    let lifecycle = Lifecycle::new();
    let trimmer = Trimmer::new(fresh.database.clone(), Names::TABLE, Duration::from_secs(1));
    lifecycle.spawn("trim outbox", trimmer.run(lifecycle.clone(), |_| {}));
    let until_deleted = async |name: &str| {
        let deadline = Instant::now() + PATIENCE;
        while fresh.count(name).await > 0 {
            assert!(Instant::now() < deadline, "{name} is kept");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    until_deleted("a").await;
    late.execute("COMMIT").await.unwrap();
    assert_eq!(fresh.count("late").await, 1);
    until_deleted("late").await;
    fresh.drop().await;
}
