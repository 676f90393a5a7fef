//! Stories about ephemerals, typing and read markers: their recipients, replicas and rates; and about the buses that
//! carry them between replicas.

mod nats;
mod read_marker;
mod typing;

use parlance::message::v1::{Event, SendTypingRequest, SubscribeStart, event::Kind};
use tonic::Status;

use crate::support::{Inbox, NatsServer, Received, RunningMessageService, World, group};

/// Two replicas that notify each other over one kind of bus, and the users and group of most stories.
struct Pair {
    world: World,
    replica: RunningMessageService,
    nats: Option<NatsServer>,
}

impl Pair {
    async fn on_postgres() -> Self {
        Self::with(None).await
    }

    async fn on_nats() -> Self {
        Self::with(Some(NatsServer::start().await)).await
    }

    async fn with(nats: Option<NatsServer>) -> Self {
        let url = nats.as_ref().map_or_else(|| "postgres".to_owned(), NatsServer::url);
        let flags = ["--bus-url", &url];
        let world = World::with(&flags).await;
        world.users(&["ann", "ben", "cat", "dan"]).await;
        world.create(group("g", "ann", &["ben"])).await;
        let replica = world.replica_with(&flags).await;
        Self { world, replica, nats }
    }

    /// Opens one stream of a user at each replica, and catches up both.
    async fn both(&self, user_id: &str) -> [Inbox; 2] {
        let clients = [self.world.messages(), self.replica.messages()];
        let mut inboxes = Vec::new();
        for client in &clients {
            let mut inbox = Inbox::subscribe(client, user_id, &[], SubscribeStart::Now).await.unwrap();
            inbox.catch_up().await;
            inboxes.push(inbox);
        }
        inboxes.try_into().unwrap_or_else(|_| unreachable!())
    }

    async fn type_in(&self, conversation_id: &str, actor_id: &str) -> Result<(), Status> {
        let request = SendTypingRequest { conversation_id: conversation_id.to_owned(), actor_id: actor_id.to_owned() };
        self.world.messages().send_typing(request).await.map(drop)
    }
}

/// Repeats an ephemeral until each of the streams has received it: it may be lost.
async fn until_delivered(inboxes: &mut [&mut Inbox], is_it: impl Fn(&Event) -> bool, say: impl AsyncFn()) {
    for inbox in inboxes {
        let waiting = inbox.until(|received| matches!(received, Received::Event(event) if is_it(event)));
        tokio::pin!(waiting);
        loop {
            tokio::select! {
                _ = &mut waiting => break,
                () = async {
                    say().await;
                    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
                } => {}
            }
        }
    }
}

fn is_typing(event: &Event, user_id: &str) -> bool {
    event.sequence == 0 && matches!(&event.kind, Some(Kind::Typing(typing)) if typing.user_id == user_id)
}

fn is_marker(event: &Event, user_id: &str, sequence: i64) -> bool {
    let is_it = |kind: &Kind| matches!(kind, Kind::ReadMarker(marker) if marker.user_id == user_id && marker.last_read_sequence == sequence);
    event.sequence == 0 && event.kind.as_ref().is_some_and(is_it)
}
