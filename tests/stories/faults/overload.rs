//! The write queue is full: further sends are refused at once with a retry delay, and queued ones are stored. A user who fills
//! a share of it is refused alone.

use futures_util::{StreamExt, stream::FuturesUnordered};
use parlance::message::v1::message_service_client::MessageServiceClient;
use sqlx::PgConnection;
use tonic::{Code, Response, Status, transport::Channel};
use tonic_types::StatusExt;

use crate::support::{World, channel_to, code_and_reason, group, retry_delay, send_as};

/// The queue holds 32 MiB, each send with a little overhead, and a sixteenth of it of each user.
const SENDS: usize = 2_300;
const SENDERS: usize = 18;
const SENDS_OF_ONE: usize = 200;
/// A connection carries about a thousand calls at a time.
const CONNECTIONS: usize = 3;

/// Creates a group that is locked from outside.
async fn locked_group(senders: &[String]) -> (World, PgConnection) {
    let world = World::new().await;
    let names: Vec<&str> = senders.iter().map(String::as_str).collect();
    world.users(&names).await;
    world.create(group("g", names[0], &names[1..])).await;
    let mut outside = world.database.connect().await;
    let hold = "BEGIN; SELECT FROM parlance_message.conversations WHERE conversation_id = 'g' FOR UPDATE";
    sqlx::raw_sql(hold).execute(&mut outside).await.unwrap();
    (world, outside)
}

/// Starts large sends of these users in turn.
fn flood<'w>(
    world: &'w World,
    senders: &'w [String],
    count: usize,
) -> FuturesUnordered<
    impl Future<Output = Result<Response<parlance::message::v1::SendMessageResponse>, Status>> + use<'w>,
> {
    let text = "x".repeat(16_384);
    let clients: Vec<MessageServiceClient<Channel>> =
        (0..CONNECTIONS).map(|_| MessageServiceClient::new(channel_to(world.message_service.address()))).collect();
    let send = |n: usize| {
        let mut client = clients[n % CONNECTIONS].clone();
        let request = send_as(&format!("r{n}"), "g", &senders[n % senders.len()], &text);
        async move { client.send_message(request).await }
    };
    (0..count).map(send).collect()
}

/// Checks that a status refuses a write for the bytes of `subject`; one that waited for too long is all right, too.
fn is_refused(status: &Status, subject: &str) -> bool {
    match (code_and_reason(status).0, &*code_and_reason(status).1) {
        (Code::ResourceExhausted, "OVERLOADED") => {
            assert!(retry_delay(status).is_some());
            let quota = status.get_details_quota_failure().expect("a quota");
            quota.violations.iter().any(|violation| violation.subject == subject)
        }
        // On a slow machine the first have reached their deadline in the queue.
        (Code::Unavailable, "CONVERSATION_BUSY" | "DATABASE_UNAVAILABLE") => false,
        received => panic!("{received:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sends_beyond_the_queue_are_refused_at_once_and_the_rest_are_stored() {
    let senders: Vec<_> = (0..SENDERS).map(|n| format!("user-{n}")).collect();
    let (world, mut outside) = locked_group(&senders).await;
    let mut answers = flood(&world, &senders, SENDS);
    let (mut stored, mut refused) = (0, 0);
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(_) => stored += 1,
            Err(status) if is_refused(&status, "writes") => {
                if refused == 0 {
                    sqlx::raw_sql("ROLLBACK").execute(&mut outside).await.unwrap();
                }
                refused += 1;
            }
            Err(_) => {}
        }
    }
    assert!(refused > 0, "{stored} stored, none refused");
    assert_eq!(world.conversation("g", &senders[0]).await.unwrap().message_count, stored);
    // The queue accepts sends again.
    world.send("g", &senders[0], "afterwards").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_with_too_many_waiting_writes_is_refused_alone() {
    let senders = ["ann".to_owned(), "ben".to_owned()];
    let (world, _outside) = locked_group(&senders).await;
    world.create(group("h", "ben", &["ann"])).await;
    let mut answers = flood(&world, &senders[..1], SENDS_OF_ONE);
    let first = answers.next().await.expect("an answer").unwrap_err();
    assert!(is_refused(&first, "user"), "{first:?}");
    world.send("h", "ben", "meanwhile").await;
    let ((), more) = tokio::join!(
        async {
            while let Some(answer) = answers.next().await {
                is_refused(&answer.unwrap_err(), "user");
            }
        },
        world.try_send(send_as("large", "h", "ben", &"x".repeat(16_384))),
    );
    more.unwrap();
}
