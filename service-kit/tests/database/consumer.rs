//! Readers with a name.

use service_kit::database::outbox::Consumer;
use sqlx::{Connection, Executor};

use super::{Fresh, Names, RETENTION};

const CONSUMERS: &str =
    "CREATE TABLE public.consumers (name text PRIMARY KEY, position text NOT NULL, updated_at timestamptz NOT NULL)";

#[tokio::test]
async fn a_consumer_continues_after_a_restart_and_reads_unhandled_batches_again() {
    let fresh = Fresh::new("consumer").await;
    fresh.database.execute(sqlx::query(CONSUMERS)).await.unwrap();
    let consumer = || Consumer::<Names>::new(fresh.database.clone(), "public.consumers", "search", RETENTION);
    let first = consumer().read().await.unwrap();
    assert!(first.batch.is_none());
    consumer().commit(&first.position).await.unwrap();

    let mut late = fresh.open("late").await;
    fresh.insert("a").await;
    let unhandled = consumer().read().await.unwrap();
    let again = consumer().read().await.unwrap();
    assert_eq!((unhandled.batch.unwrap().names, again.batch.unwrap().names), (vec!["a".into()], vec!["a".to_owned()]));
    consumer().commit(&again.position).await.unwrap();

    late.execute("COMMIT").await.unwrap();
    let other = Consumer::<Names>::new(fresh.database.clone(), "public.consumers", "feed", RETENTION);
    assert!(other.read().await.unwrap().batch.is_none());
    let rest = consumer().read().await.unwrap();
    assert_eq!(rest.batch.unwrap().names, ["late"]);
    late.close().await.unwrap();
    fresh.drop().await;
}

#[tokio::test]
async fn a_consumer_whose_position_is_of_another_server_starts_over() {
    let fresh = Fresh::new("moved").await;
    fresh.database.execute(sqlx::query(CONSUMERS)).await.unwrap();
    let consumer = Consumer::<Names>::new(fresh.database.clone(), "public.consumers", "search", RETENTION);
    consumer.commit(&consumer.read().await.unwrap().position).await.unwrap();
    // A restore brings the stored position along to a server that started at another time.
    let moved = "UPDATE public.consumers SET position = regexp_replace(position, '^1 [0-9]+', '1 7')";
    fresh.database.execute(sqlx::query(moved)).await.unwrap();
    fresh.insert("a").await;
    let read = consumer.read().await.unwrap();
    assert!(read.batch.is_none());
    consumer.commit(&read.position).await.unwrap();
    fresh.insert("b").await;
    assert_eq!(consumer.read().await.unwrap().batch.unwrap().names, ["b"]);
    fresh.drop().await;
}
