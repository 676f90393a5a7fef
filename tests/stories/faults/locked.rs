//! Somebody outside holds a conversation's row locked: its neighbours go on, its own writes wait in order, or are told
//! that it is busy.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use parlance::message::v1::event::Kind;
use sqlx::PgConnection;
use tonic::{Code, Request};

use crate::support::{World, group, metadata, refused, retry_delay, send, send_as};

async fn world() -> World {
    // One writer, so that all of them share it.
    let world = World::with(&["--writers", "1"]).await;
    world.users(&["ann", "ben"]).await;
    for id in ["g", "h", "i"] {
        world.create(group(id, "ann", &["ben"])).await;
    }
    world
}

async fn hold(world: &World) -> PgConnection {
    let mut outside = world.database.connect().await;
    let lock = "BEGIN; SELECT FROM parlance_message.conversations WHERE conversation_id = 'g' FOR UPDATE";
    sqlx::raw_sql(lock).execute(&mut outside).await.unwrap();
    outside
}

#[tokio::test]
async fn neighbours_go_on_and_what_waits_is_stored_in_order() {
    let world = world().await;
    // Known to the directory, so that no lookup mixes the order up.
    world.send("h", "ann", "x").await;
    let mut outside = hold(&world).await;
    let waiting = async {
        // One after the other into the queue, each well before the next.
        let sends = (0..5).map(|n| async move { (n, tokio::time::sleep(Duration::from_millis(100 * n)).await) });
        let sends = sends.map(|sent| async {
            let (n, ()) = sent.await;
            world.send("g", "ann", &format!("{n}")).await
        });
        join_all(sends).await
    };
    let neighbours = async {
        // Not before the lock has been met.
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
    let mut outside = hold(&world).await;
    let since = Instant::now();
    let status = refused(world.try_send(send_as("r", "g", "ann", "x")).await, Code::Unavailable, "CONVERSATION_BUSY");
    assert_eq!(metadata(&status, "conversation_id"), "g");
    assert!(retry_delay(&status).is_some());
    // A bound, not a speed: a caller without a deadline is not kept for ever.
    assert!(since.elapsed() < Duration::from_secs(20), "{:?}", since.elapsed());
    // Its neighbours do not wait for it even now.
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
async fn changes_wait_like_messages() {
    let world = world().await;
    let mut outside = hold(&world).await;
    let answer = world.remove("g", "ann", "ben").await;
    let status = refused(answer, Code::Unavailable, "CONVERSATION_BUSY");
    assert_eq!(metadata(&status, "conversation_id"), "g");
    sqlx::raw_sql("ROLLBACK").execute(&mut outside).await.unwrap();
    world.remove("g", "ann", "ben").await.unwrap();
    assert_eq!(world.log("g", "ann").await.len(), 3);
}

#[tokio::test]
async fn a_locked_member_holds_up_no_large_batch_either() {
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
async fn whoever_asks_for_the_locked_conversations_id_holds_nobody_up() {
    let world = world().await;
    let mut outside = hold(&world).await;
    let waiting = async {
        let (first, taken, last) = tokio::join!(
            world.try_send(send_as("first", "g", "ann", "x")),
            async {
                // Once the send is known to be locked.
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
async fn a_member_that_stays_locked_is_busy_and_holds_nobody_else_up() {
    let world = world().await;
    let mut outside = world.database.connect().await;
    let lock = "BEGIN; SELECT FROM parlance_message.members WHERE conversation_id = 'g' AND user_id = 'ann' FOR UPDATE";
    sqlx::raw_sql(lock).execute(&mut outside).await.unwrap();
    let (held, neighbour) = tokio::join!(
        world.try_send(send_as("r", "g", "ann", "x")),
        // Of the same writer, and very likely of the same batch.
        world.try_send(send_as("r", "h", "ann", "x")),
    );
    let status = refused(held, Code::Unavailable, "CONVERSATION_BUSY");
    assert!(retry_delay(&status).is_some());
    assert_eq!(neighbour.unwrap().message.unwrap().sequence, 3);
    sqlx::raw_sql("ROLLBACK").execute(&mut outside).await.unwrap();
    let stored = world.try_send(send_as("r", "g", "ann", "x")).await.unwrap();
    assert_eq!((stored.duplicate, stored.message.unwrap().sequence), (false, 3));
}
