//! A transaction outside the services locks a conversation's row: other conversations continue, writes to the locked
//! one wait in order or are refused as busy.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use parlance::message::v1::event::Kind;
use parlance_client::{Client, Draft};
use sqlx::PgConnection;
use tonic::{Code, Request};

use crate::support::{World, group, metadata, refused, retry_delay, send, send_as};

async fn world() -> World {
    // One writer, shared by all conversations.
    let world = World::with(&["--writers", "1"]).await;
    world.users(&["ann", "ben"]).await;
    for id in ["g", "h", "i"] {
        world.create(group(id, "ann", &["ben"])).await;
    }
    world
}

async fn lock_conversation(world: &World) -> PgConnection {
    let mut outside = world.database.connect().await;
    let lock = "BEGIN; SELECT FROM parlance_message.conversations WHERE conversation_id = 'g' FOR UPDATE";
    sqlx::raw_sql(lock).execute(&mut outside).await.unwrap();
    outside
}

#[tokio::test]
async fn other_conversations_continue_and_queued_sends_are_stored_in_order() {
    let world = world().await;
    // Cached in the directory, so that no lookup changes the order.
    world.send("h", "ann", "x").await;
    let mut outside = lock_conversation(&world).await;
    let waiting = async {
        // Queued one after the other, each well before the next.
        let sends = (0..5).map(|n| async move { (n, tokio::time::sleep(Duration::from_millis(100 * n)).await) });
        let sends = sends.map(|sent| async {
            let (n, ()) = sent.await;
            world.send("g", "ann", &format!("{n}")).await
        });
        join_all(sends).await
    };
    let neighbours = async {
        // After the writer has met the lock.
        tokio::time::sleep(Duration::from_millis(100)).await;
        for n in 0..20 {
            world.send(if n % 2 == 0 { "h" } else { "i" }, "ann", "x").await;
        }
        sqlx::raw_sql("ROLLBACK").execute(&mut outside).await.unwrap();
    };
    let (stored, ()) = tokio::join!(waiting, neighbours);
    assert_eq!(stored.iter().map(|message| message.sequence).collect::<Vec<_>>(), [3, 4, 5, 6, 7]);
    let log = world.log("g", "ben").await;
    let texts: Vec<_> = log[2..]
        .iter()
        .map(|event| match &event.kind {
            Some(Kind::MessageSent(message)) => message.text.clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(texts, ["0", "1", "2", "3", "4"]);
}

#[tokio::test]
async fn a_conversation_that_stays_locked_is_busy() {
    let world = world().await;
    let mut outside = lock_conversation(&world).await;
    let since = Instant::now();
    let status = refused(world.try_send(send_as("r", "g", "ann", "x")).await, Code::Unavailable, "CONVERSATION_BUSY");
    assert_eq!(metadata(&status, "conversation_id"), "g");
    assert!(retry_delay(&status).is_some());
    // A bound, not a speed: a caller without a deadline does not wait forever.
    assert!(since.elapsed() < Duration::from_secs(20), "{:?}", since.elapsed());
    // Other conversations do not wait for it even now.
    let quick = async {
        let mut asked = Request::new(send("h", "ann", "x"));
        asked.set_timeout(Duration::from_secs(3));
        world.messages().send_message(asked).await.unwrap()
    };
    quick.await;
    sqlx::raw_sql("ROLLBACK").execute(&mut outside).await.unwrap();
    let stored = world.try_send(send_as("r", "g", "ann", "x")).await.unwrap();
    assert!(!stored.duplicate, "busy means that nothing was stored");
    assert_eq!(stored.message.unwrap().sequence, 3);
}

#[tokio::test]
async fn changes_wait_for_a_locked_row_like_messages() {
    let world = world().await;
    let mut outside = lock_conversation(&world).await;
    let answer = world.remove("g", "ann", "ben").await;
    let status = refused(answer, Code::Unavailable, "CONVERSATION_BUSY");
    assert_eq!(metadata(&status, "conversation_id"), "g");
    sqlx::raw_sql("ROLLBACK").execute(&mut outside).await.unwrap();
    world.remove("g", "ann", "ben").await.unwrap();
    assert_eq!(world.log("g", "ann").await.len(), 3);
}

#[tokio::test]
async fn a_locked_member_does_not_block_a_large_batch() {
    let world = world().await;
    let mut outside = world.database.connect().await;
    let lock = "BEGIN; SELECT FROM parlance_message.members WHERE conversation_id = 'g' AND user_id = 'ann' FOR UPDATE";
    sqlx::raw_sql(lock).execute(&mut outside).await.unwrap();
    let held = world.try_send(send_as("r", "g", "ann", "x"));
    let neighbours =
        join_all(
            (0..96).map(|n| {
                let (world, id) = (&world, if n % 2 == 0 { "h" } else { "i" });
                async move {
                    world.try_send(send_as(&format!("r{n}"), id, if n % 3 == 0 { "ann" } else { "ben" }, "x")).await
                }
            }),
        );
    let (held, neighbours) = tokio::join!(held, neighbours);
    refused(held, Code::Unavailable, "CONVERSATION_BUSY");
    for stored in neighbours {
        stored.unwrap();
    }
    sqlx::raw_sql("ROLLBACK").execute(&mut outside).await.unwrap();
}

#[tokio::test]
async fn creating_a_conversation_with_a_locked_id_blocks_no_other_caller() {
    let world = world().await;
    let mut outside = lock_conversation(&world).await;
    let waiting = async {
        let (first, taken, last) = tokio::join!(
            world.try_send(send_as("first", "g", "ann", "x")),
            async {
                // After the send has met the lock.
                tokio::time::sleep(Duration::from_millis(800)).await;
                world.conversations().create_conversation(group("g", "ann", &[])).await
            },
            async {
                tokio::time::sleep(Duration::from_millis(900)).await;
                world.try_send(send_as("last", "g", "ann", "x")).await
            },
        );
        assert_eq!(first.unwrap().message.unwrap().sequence, 3);
        assert_eq!(last.unwrap().message.unwrap().sequence, 4);
        refused(taken, Code::AlreadyExists, "CONVERSATION_ID_TAKEN");
    };
    let release = async {
        tokio::time::sleep(Duration::from_millis(1_200)).await;
        sqlx::raw_sql("ROLLBACK").execute(&mut outside).await.unwrap();
    };
    tokio::join!(waiting, release);
}

#[tokio::test]
async fn a_member_that_stays_locked_is_busy_and_blocks_no_other() {
    let world = world().await;
    let mut outside = world.database.connect().await;
    let lock = "BEGIN; SELECT FROM parlance_message.members WHERE conversation_id = 'g' AND user_id = 'ann' FOR UPDATE";
    sqlx::raw_sql(lock).execute(&mut outside).await.unwrap();
    let (held, neighbour) = tokio::join!(
        world.try_send(send_as("r", "g", "ann", "x")),
        // At the same writer, and very likely in the same batch.
        world.try_send(send_as("r", "h", "ann", "x")),
    );
    let status = refused(held, Code::Unavailable, "CONVERSATION_BUSY");
    assert!(retry_delay(&status).is_some());
    assert_eq!(neighbour.unwrap().message.unwrap().sequence, 3);
    sqlx::raw_sql("ROLLBACK").execute(&mut outside).await.unwrap();
    let stored = world.try_send(send_as("r", "g", "ann", "x")).await.unwrap();
    assert_eq!((stored.duplicate, stored.message.unwrap().sequence), (false, 3));
}

#[tokio::test]
async fn sends_behind_a_locked_member_keep_their_order() {
    let world = world().await;
    let client = Client::new([format!("http://{}", world.message_service.address())]).unwrap();
    let (ann, _updates) = client.session("ann").send_only().open();
    ann.send(Draft::text("h", "x")).await.unwrap();
    let mut outside = world.database.connect().await;
    // Released at different times, while the lane halves the batch.
    for held in [1_300, 1_700, 2_100] {
        let lock =
            "BEGIN; SELECT FROM parlance_message.members WHERE conversation_id = 'g' AND user_id = 'ann' FOR UPDATE";
        sqlx::raw_sql(lock).execute(&mut outside).await.unwrap();
        let sends = join_all((0..8).map(|n| ann.send(Draft::text("g", format!("{n}")))));
        let release = async {
            tokio::time::sleep(Duration::from_millis(held)).await;
            sqlx::raw_sql("ROLLBACK").execute(&mut outside).await.unwrap();
        };
        let (sent, ()) = tokio::join!(sends, release);
        let sequences: Vec<i64> = sent.into_iter().map(|sent| sent.unwrap().sequence).collect();
        assert!(sequences.is_sorted(), "{sequences:?}");
    }
}
