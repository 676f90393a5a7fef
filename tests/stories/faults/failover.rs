//! The primary is lost and a standby is promoted. What an asynchronous standby did not have is lost: every client learns of
//! it, and none keeps entries that others have replaced.

use std::time::Instant;

use futures_util::StreamExt;
use parlance::message::v1::{
    Cursor, StreamMessagesRequest, StreamMessagesResponse, SubscribeRequest, stream_messages_response,
    subscribe_response,
};
use parlance_client::{Client, Update, Updates};
use parlance_standalone::cluster::{Cluster, Options};
use sqlx::{Connection, PgConnection};
use tokio::time::timeout;
use tonic::{Code, Status, Streaming};

use crate::support::{Mode, PATIENCE, Process, Proxy, code_and_reason, eventually, group, metadata, read_log, send_as};

/// A primary with a standby, and both services behind a proxy that leads to the primary of the moment.
pub(super) struct Deployment {
    pub(super) primary: Cluster,
    pub(super) standby: Cluster,
    proxy: Proxy,
    pub(super) message_service: Process,
    pub(super) user_service: Process,
}

impl Deployment {
    async fn new() -> Self {
        Self::with(&["g", "h"]).await
    }

    /// Starts all of it, with these groups of Ann and Ben.
    pub(super) async fn with(groups: &[&str]) -> Self {
        let primary = Cluster::start(Options::temporary().max_connections(50)).await.unwrap();
        primary.create_database("parlance").await.unwrap();
        let standby = primary.standby().await.unwrap();
        let proxy = Proxy::before(format!("127.0.0.1:{}", primary.port()), Mode::Open).await;
        let url = primary.url("parlance").replace(&format!(":{}/", primary.port()), &format!(":{}/", proxy.port()));
        let timeout = ["--database-timeout", "2s"];
        let user_service = Process::user_service_with(&url, &timeout).await;
        let message_service = Process::message_service(&url, &user_service.address().to_string(), &timeout).await;
        for name in ["ann", "ben"] {
            user_service.create(name).await;
        }
        for id in groups {
            message_service.conversations().create_conversation(group(id, "ann", &["ben"])).await.unwrap();
        }
        Self { primary, standby, proxy, message_service, user_service }
    }

    async fn send(&self, conversation_id: &str, request_id: &str) -> i64 {
        let send = || async {
            let request = send_as(request_id, conversation_id, "ann", request_id);
            self.message_service.messages().send_message(request).await
        };
        eventually(PATIENCE, send).await.into_inner().message.unwrap().sequence
    }

    /// Waits until the standby has everything that was committed so far.
    async fn replicate(&self) {
        let mut primary = connect(&self.primary).await;
        let (lsn,): (String,) =
            sqlx::query_as("SELECT pg_current_wal_lsn()::text").fetch_one(&mut primary).await.unwrap();
        until(&self.standby, "pg_last_wal_replay_lsn() >= $1::pg_lsn", &lsn).await;
    }

    /// Makes every commit of the primary wait for the standby.
    pub(super) async fn replicate_synchronously(&self) {
        let mut primary = connect(&self.primary).await;
        for statement in ["ALTER SYSTEM SET synchronous_standby_names = 'walreceiver'", "SELECT pg_reload_conf()"] {
            sqlx::raw_sql(statement).execute(&mut primary).await.unwrap();
        }
        until(&self.primary, "$1 = '' AND EXISTS (SELECT FROM pg_stat_replication WHERE sync_state = 'sync')", "")
            .await;
    }

    /// Cuts the standby off: what is committed from here on is lost in a failover.
    pub(super) async fn cut_off(&self) {
        let mut standby = connect(&self.standby).await;
        for statement in ["ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()"] {
            sqlx::raw_sql(statement).execute(&mut standby).await.unwrap();
        }
        until(&self.standby, "$1 = '' AND NOT EXISTS (SELECT FROM pg_stat_wal_receiver)", "").await;
    }

    /// Kills the primary and promotes the standby.
    pub(super) async fn fail_over(&mut self) {
        self.primary.kill().await;
        self.promote().await;
    }

    /// Promotes the standby, in place of a primary that is lost.
    pub(super) async fn promote(&mut self) {
        let mut standby = connect(&self.standby).await;
        let (promoted,): (bool,) = sqlx::query_as("SELECT pg_promote()").fetch_one(&mut standby).await.unwrap();
        assert!(promoted);
        self.proxy.redirect_to(format!("127.0.0.1:{}", self.standby.port()));
    }

    /// Replaces the lost primary by a new standby of the promoted one.
    pub(super) async fn rejoin(&mut self) {
        let rejoined = self.standby.standby().await.unwrap();
        self.primary = std::mem::replace(&mut self.standby, rejoined);
    }

    async fn stream(&self, after: i64, epoch: &str) -> Result<Stream, Status> {
        let request = StreamMessagesRequest {
            conversation_id: "g".to_owned(),
            actor_id: "ben".to_owned(),
            after_sequence: Some(after),
            epoch: epoch.to_owned(),
        };
        Ok(Stream(self.message_service.messages().stream_messages(request).await?.into_inner()))
    }
}

async fn connect(cluster: &Cluster) -> PgConnection {
    PgConnection::connect(&cluster.url("postgres")).await.unwrap()
}

/// Waits until a condition holds on a server.
async fn until(cluster: &Cluster, condition: &'static str, parameter: &str) {
    let mut connection = connect(cluster).await;
    let statement = format!("SELECT {condition}");
    let began = Instant::now();
    loop {
        let query = sqlx::query_as(sqlx::AssertSqlSafe(&*statement)).bind(parameter);
        let (holds,): (bool,) = query.fetch_one(&mut connection).await.unwrap();
        if holds {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "never: {condition} with {parameter}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

struct Stream(Streaming<StreamMessagesResponse>);

impl Stream {
    async fn item(&mut self) -> Result<stream_messages_response::Item, Status> {
        let item = timeout(PATIENCE, self.0.message()).await.expect("an item in time")?;
        Ok(item.expect("an item before the end").item.expect("a known kind"))
    }

    /// Receives the heartbeat at the beginning, and returns the epoch that it names.
    async fn epoch(&mut self) -> String {
        match self.item().await.unwrap() {
            stream_messages_response::Item::Heartbeat(heartbeat) => heartbeat.epoch,
            other => panic!("{other:?} in place of a heartbeat"),
        }
    }

    /// Receives the next entry.
    async fn event(&mut self) -> Result<i64, Status> {
        loop {
            if let stream_messages_response::Item::Event(event) = self.item().await? {
                return Ok(event.sequence);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_lost_in_a_failover_are_announced_to_every_client() {
    let mut deployment = Deployment::new().await;
    assert_eq!(deployment.send("g", "kept").await, 3);
    deployment.replicate().await;
    deployment.cut_off().await;

    let mut stream = deployment.stream(0, "").await.unwrap();
    let before = stream.epoch().await;
    assert!(!before.is_empty());
    let client = Client::new([format!("http://{}", deployment.message_service.address())]).unwrap();
    let (session, mut updates) = client.session("ben").open();
    for sequence in 4..=5 {
        assert_eq!(deployment.send("g", &format!("lost {sequence}")).await, sequence);
    }
    for sequence in 1..=5 {
        assert_eq!(stream.event().await.unwrap(), sequence);
    }
    while session.cursors().get("g") != Some(&5) {
        timeout(PATIENCE, updates.next()).await.expect("an update in time");
    }
    assert_eq!(session.epoch(), before);

    deployment.fail_over().await;
    // Other entries take the sequences of the lost ones, and more: numbers alone no longer show it.
    for sequence in 4..=6 {
        assert_eq!(deployment.send("g", &format!("later {sequence}")).await, sequence);
    }
    // The open stream has ended with an invitation to resume, without an entry of the other log.
    let end = stream.event().await.unwrap_err();
    assert_eq!(code_and_reason(&end), (Code::Unavailable, "DATABASE_UNAVAILABLE".to_owned()));

    // A stream that resumes is refused up to the last entry that survived.
    let refused = eventually(PATIENCE, async || match deployment.stream(5, &before).await {
        Err(status) if status.code() == Code::FailedPrecondition => Ok(status),
        other => Err(format!("{:?}", other.map(drop))),
    })
    .await;
    assert_eq!(code_and_reason(&refused).1, "SEQUENCE_AHEAD");
    assert_eq!(metadata(&refused, "last_sequence"), "3");
    // From there it receives what is stored now.
    let mut resumed = deployment.stream(3, &before).await.unwrap();
    let after = resumed.epoch().await;
    assert_ne!(after, before);
    for sequence in 4..=6 {
        assert_eq!(resumed.event().await.unwrap(), sequence);
    }
    let log = read_log(&mut deployment.message_service.messages(), "g", "ben", 1000).await;
    assert_eq!(log.len(), 6);

    subscriptions_close_what_was_lost(&deployment, &before, &after).await;
    // The reference client heard it, too.
    let closed = eventually_closed(&mut updates).await;
    assert_eq!(code_and_reason(&closed).1, "SEQUENCE_AHEAD");
    assert_eq!(metadata(&closed, "last_sequence"), "3");
    while session.epoch() != after {
        timeout(PATIENCE, updates.next()).await.expect("an update in time");
    }
}

/// Waits until the client reports that a conversation is closed.
async fn eventually_closed(updates: &mut Updates) -> Status {
    loop {
        match timeout(PATIENCE, updates.next()).await.expect("an update in time") {
            Some(Update::Closed { conversation_id, status }) if conversation_id == "g" => return status,
            Some(_) => {}
            None => panic!("the session has ended"),
        }
    }
}

/// Subscribes with positions of the lost log: the conversation with lost entries is closed before the heartbeat that names
/// the new epoch, and the other one continues.
async fn subscriptions_close_what_was_lost(deployment: &Deployment, before: &str, after: &str) {
    let cursor = |id: &str, after_sequence| Cursor { conversation_id: id.to_owned(), after_sequence };
    let request = SubscribeRequest {
        actor_id: "ben".to_owned(),
        cursors: vec![cursor("g", 5), cursor("h", 2)],
        epoch: before.to_owned(),
        ..Default::default()
    };
    let stream = deployment.message_service.messages().subscribe(request).await.unwrap().into_inner();
    let mut items = Box::pin(stream.map(|item| item.unwrap().item.expect("a known kind")));
    let mut next = async || timeout(PATIENCE, items.next()).await.expect("an item in time").expect("an item");
    match next().await {
        subscribe_response::Item::Closed(closed) => assert_eq!(closed.conversation_id, "g"),
        other => panic!("{other:?} in place of closed"),
    }
    match next().await {
        subscribe_response::Item::Heartbeat(heartbeat) => assert_eq!(heartbeat.epoch, after),
        other => panic!("{other:?} in place of a heartbeat"),
    }
    match next().await {
        subscribe_response::Item::CaughtUp(mark) => assert_eq!((&*mark.conversation_id, mark.sequence), ("h", 2)),
        other => panic!("{other:?} in place of caught_up"),
    }
    // An epoch that was lost itself is an unknown one: nothing of it is taken for granted.
    let refused = deployment.stream(1, "an epoch of another database").await.map(drop).unwrap_err();
    assert_eq!(metadata(&refused, "last_sequence"), "0");
}
