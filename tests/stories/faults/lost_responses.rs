//! The response to a commit is lost: without a request id the outcome is unknown, with one a retry finds the stored
//! message.

use std::time::Duration;

use futures_util::future::join_all;
use parlance::message::v1::{Conversation, GetConversationRequest, UpdateConversationRequest};
use tokio::sync::Mutex;
use tonic::{Code, Request};

use crate::support::{Mode, PATIENCE, Proxy, Reader, World, eventually, group, refused, retry_delay, send, send_as};

/// A world whose message-service reaches the database through a proxy.
async fn world() -> (World, Proxy) {
    let (world, proxy) = World::with_proxied_database(&["--database-timeout", "2s", "--writers", "1"]).await;
    world.users(&["ann", "ben"]).await;
    world.create(group("g", "ann", &["ben"])).await;
    // The writer's connection is open from here on.
    world.send("g", "ann", "first").await;
    (world, proxy)
}

#[tokio::test]
async fn a_write_with_a_lost_response_reports_the_truth_and_is_stored_at_most_once() {
    let (world, proxy) = world().await;
    proxy.set(Mode::LosingResponses);
    let (without, with) =
        tokio::join!(world.try_send(send("g", "ann", "without")), world.try_send(send_as("r", "g", "ann", "with")),);
    let status = refused(without, Code::Unknown, "OUTCOME_UNKNOWN");
    assert!(retry_delay(&status).is_none());
    let status = refused(with, Code::Unavailable, "DATABASE_UNAVAILABLE");
    assert!(retry_delay(&status).is_some());

    proxy.set(Mode::Open);
    let again = eventually(PATIENCE, || world.try_send(send_as("r", "g", "ann", "with"))).await;
    let log = eventually(PATIENCE, || async {
        world.conversation("g", "ann").await?;
        Ok::<_, tonic::Status>(world.log("g", "ann").await)
    })
    .await;
    let texts = |wanted: &str| {
        let sent = log.iter().filter_map(|event| match &event.kind {
            Some(parlance::message::v1::event::Kind::MessageSent(message)) => Some(message),
            _ => None,
        });
        sent.filter(|message| message.text == wanted).count()
    };
    assert_eq!(texts("with"), 1);
    assert!(texts("without") <= 1, "{log:?}");
    let third = world.try_send(send_as("r", "g", "ann", "with")).await.unwrap();
    assert_eq!((third.duplicate, third.message), (true, again.message));
}

#[tokio::test]
async fn reads_and_writes_report_an_unreachable_database_as_unavailable() {
    let (world, proxy) = world().await;
    proxy.set(Mode::Closed);
    let (sent, read) = tokio::join!(world.try_send(send("g", "ann", "x")), world.conversation("g", "ann"));
    // Either nothing was sent, and a retry is safe even without a request id, or the error reports an unknown outcome.
    let status = sent.unwrap_err();
    let (code, reason) = crate::support::code_and_reason(&status);
    assert!(
        (code, &*reason) == (Code::Unavailable, "DATABASE_UNAVAILABLE")
            || (code, &*reason) == (Code::Unknown, "OUTCOME_UNKNOWN"),
        "{status:?}"
    );
    let status = refused(read, Code::Unavailable, "DATABASE_UNAVAILABLE");
    assert!(retry_delay(&status).is_some());
    proxy.set(Mode::Open);
    eventually(PATIENCE, || world.try_send(send_as("r", "g", "ann", "back"))).await;
}

#[tokio::test]
async fn a_change_with_a_lost_response_is_not_refused_because_of_itself() {
    let (world, proxy) = world().await;
    let etag = world.conversation("g", "ann").await.unwrap().etag;
    proxy.set(Mode::LosingResponses);
    let title = Conversation { conversation_id: "g".to_owned(), title: "new".to_owned(), etag, ..Default::default() };
    let title = UpdateConversationRequest { conversation: Some(title), update_mask: None, actor_id: "ann".to_owned() };
    let mut conversations = world.conversations();
    let (removed, titled, ()) =
        tokio::join!(world.remove("g", "ann", "ben"), conversations.update_conversation(title), async {
            // The first attempt is committed and its response lost; the service retries once it can.
            let outside = Mutex::new(world.database.connect().await);
            eventually(PATIENCE, || async {
                let head = "SELECT last_sequence FROM parlance_message.conversations WHERE conversation_id = 'g'";
                let (head,): (i64,) = sqlx::query_as(head).fetch_one(&mut *outside.lock().await).await.unwrap();
                if head == 5 { Ok(()) } else { Err(format!("the head is {head}")) }
            })
            .await;
            proxy.set(Mode::Open);
        },);
    for answer in [removed, titled.map(drop)] {
        if let Err(status) = answer {
            refused::<()>(Err(status), Code::Unavailable, "DATABASE_UNAVAILABLE");
        }
    }
    let log = eventually(PATIENCE, || try_read_log(&world)).await;
    assert_eq!(log.len(), 5);
}

#[tokio::test]
async fn a_stream_delivers_a_commit_despite_its_lost_response() {
    let (world, proxy) = world().await;
    let mut reader = Reader::open(&world.messages(), "g", "ben", Some(0)).await.unwrap();
    assert_eq!(reader.catch_up().await.1, 3);
    proxy.set(Mode::LosingResponses);
    refused(world.try_send(send("g", "ann", "lost")).await, Code::Unknown, "OUTCOME_UNKNOWN");
    proxy.set(Mode::Open);
    // No other write would draw attention to it.
    assert_eq!(reader.event().await.sequence, 4);
}

#[tokio::test]
async fn silent_connections_do_not_exhaust_the_pool() {
    let (world, proxy) = world().await;
    open_the_whole_pool(&world).await;
    // All of them are in use when the network falls silent, by callers that cancel before it is noticed.
    proxy.set(Mode::Silent);
    let impatient = (0..40).map(|_| async {
        let mut request = Request::new(GetConversationRequest { conversation_id: "g".into(), actor_id: "ann".into() });
        request.set_timeout(Duration::from_millis(500));
        world.conversations().get_conversation(request).await.unwrap_err();
    });
    join_all(impatient).await;
    proxy.set(Mode::Open);
    eventually(PATIENCE, || world.conversation("g", "ann")).await;
    eventually(PATIENCE, || world.try_send(send_as("r", "g", "ann", "back"))).await;
}

/// Makes reads wait for each other, until each connection of the pool is in use.
async fn open_the_whole_pool(world: &World) {
    let (mut outside, observer) = (world.database.connect().await, Mutex::new(world.database.connect().await));
    let lock = "BEGIN; LOCK TABLE parlance_message.conversations IN ACCESS EXCLUSIVE MODE";
    sqlx::raw_sql(lock).execute(&mut outside).await.unwrap();
    let reads = join_all((0..8).map(|_| world.conversation("g", "ann")));
    let release = async {
        eventually(PATIENCE, || async {
            let waiting = "SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND wait_event_type = 'Lock'";
            let (waiting,): (i64,) = sqlx::query_as(waiting).fetch_one(&mut *observer.lock().await).await.unwrap();
            if waiting >= 4 { Ok(()) } else { Err(format!("{waiting} wait")) }
        })
        .await;
        sqlx::raw_sql("ROLLBACK").execute(&mut outside).await.unwrap();
    };
    tokio::join!(reads, release);
}

async fn try_read_log(world: &World) -> Result<Vec<parlance::message::v1::Event>, tonic::Status> {
    crate::support::try_read_log(&mut world.messages(), "g", "ann", 1000).await
}

#[tokio::test]
async fn a_send_without_a_request_id_is_no_duplicate_of_its_own_first_run() {
    let (world, proxy) = world().await;
    proxy.set(Mode::LosingResponses);
    let (sent, ()) = tokio::join!(world.try_send(send("g", "ann", "once")), async {
        let outside = Mutex::new(world.database.connect().await);
        eventually(PATIENCE, || async {
            let head = "SELECT last_sequence FROM parlance_message.conversations WHERE conversation_id = 'g'";
            let (head,): (i64,) = sqlx::query_as(head).fetch_one(&mut *outside.lock().await).await.unwrap();
            if head == 4 { Ok(()) } else { Err(format!("the head is {head}")) }
        })
        .await;
        proxy.set(Mode::Open);
    });
    match sent {
        Ok(sent) => assert_eq!((sent.duplicate, sent.message.unwrap().sequence), (false, 4)),
        // It is stored: no error may invite a retry, which would store it again.
        Err(status) => drop(refused::<()>(Err(status), Code::Unknown, "OUTCOME_UNKNOWN")),
    }
    assert_eq!(eventually(PATIENCE, || try_read_log(&world)).await.len(), 4);
}
