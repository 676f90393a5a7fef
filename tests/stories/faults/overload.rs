//! The write queue is full: further sends are refused at once with a retry delay, and queued ones are stored.

use futures_util::{StreamExt, stream::FuturesUnordered};
use tonic::Code;
use tonic_types::StatusExt;

use crate::support::{World, channel_to, code_and_reason, retry_delay, send_as};

/// The queue holds 32 MiB, each send with a little overhead.
const SENDS: usize = 2_300;
/// A connection carries about a thousand calls at a time.
const CONNECTIONS: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sends_beyond_the_queue_are_refused_at_once_and_the_rest_are_stored() {
    let world = World::with_group().await;
    let mut outside = world.database.connect().await;
    let hold = "BEGIN; SELECT FROM parlance_message.conversations WHERE conversation_id = 'g' FOR UPDATE";
    sqlx::raw_sql(hold).execute(&mut outside).await.unwrap();

    let text = "x".repeat(16_384);
    let clients: Vec<_> = (0..CONNECTIONS)
        .map(|_| channel_to(world.message_service.address()))
        .map(parlance::message::v1::message_service_client::MessageServiceClient::new)
        .collect();
    let mut answers: FuturesUnordered<_> = (0..SENDS)
        .map(|n| {
            let (mut client, request) =
                (clients[n % CONNECTIONS].clone(), send_as(&format!("r{n}"), "g", "ann", &text));
            async move { client.send_message(request).await }
        })
        .collect();
    let (mut stored, mut refused) = (0, 0);
    while let Some(answer) = answers.next().await {
        let Err(status) = answer else {
            stored += 1;
            continue;
        };
        match (code_and_reason(&status).0, &*code_and_reason(&status).1) {
            (Code::ResourceExhausted, "OVERLOADED") => {
                assert!(retry_delay(&status).is_some());
                assert!(status.get_details_quota_failure().is_some_and(|quota| !quota.violations.is_empty()));
                if refused == 0 {
                    sqlx::raw_sql("ROLLBACK").execute(&mut outside).await.unwrap();
                }
                refused += 1;
            }
            // On a slow machine the first have reached their deadline in the queue.
            (Code::Unavailable, "CONVERSATION_BUSY" | "DATABASE_UNAVAILABLE") => {}
            received => panic!("{received:?}"),
        }
    }
    assert!(refused > 0, "{stored} stored, none refused");
    assert_eq!(world.conversation("g", "ann").await.unwrap().message_count, stored);
    // The queue accepts sends again.
    world.send("g", "ann", "afterwards").await;
}
