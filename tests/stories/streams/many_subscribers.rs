//! Many subscribers and many writers of one conversation.

use futures_util::future::join_all;

use super::follow;
use crate::support::{World, read_log, send_as};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_subscribers_receive_every_entry() {
    let world = World::with_group().await;
    world.send("g", "ann", "before").await;
    let opening = (0..200).map(|n| {
        let (world, actor) = (&world, if n % 2 == 0 { "ann" } else { "ben" });
        // Some from the beginning, some from the middle, some from now.
        let after = [Some(0), Some(2), None][n % 3];
        async move {
            let mut reader = follow(world, actor, after).await.unwrap();
            assert_eq!(reader.catch_up().await.1, 3);
            reader
        }
    });
    let readers = join_all(opening).await;
    let sends = join_all((0..100).map(|n| world.try_send(send_as(&format!("r{n}"), "g", "ann", "x"))));
    let reading = join_all(readers.into_iter().map(|mut reader| async move { reader.up_to(103).await.len() }));
    let (sent, read) = tokio::join!(sends, reading);
    assert!(sent.iter().all(Result::is_ok));
    assert!(read.iter().all(|count| *count == 100), "{read:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_and_list_events_return_the_same_log() {
    let world = World::with_group().await;
    let mut reader = follow(&world, "ben", Some(0)).await.unwrap();
    let writers = join_all((0..4).map(|writer| {
        let world = &world;
        async move {
            for n in 0..50 {
                let request = send_as(&format!("{writer}-{n}"), "g", if writer % 2 == 0 { "ann" } else { "ben" }, "x");
                let sent = world.try_send(request.clone()).await.unwrap();
                // An occasional retry, as clients do.
                if n % 7 == 0 {
                    assert_eq!(world.try_send(request).await.unwrap().message, sent.message);
                }
            }
        }
    }));
    let paging = async {
        // Repeatedly while it grows: each read is dense and ends at its head.
        while read_log(&mut world.messages(), "g", "ann", 13).await.len() < 202 {}
    };
    let following = reader.up_to(202);
    let ((), (), streamed) = tokio::join!(async { drop(writers.await) }, paging, following);
    let listed = world.log("g", "ann").await;
    assert_eq!(streamed, listed[..]);
}
