//! Streams and sessions end when user-service reports that their user may no longer act.

use std::time::{Duration, Instant};

use parlance::{message::v1::SubscribeStart, user::v1::ReactivateUserRequest};
use tonic::{Code, Status};

use super::follow;
use crate::support::{
    Inbox, Mode, PATIENCE, Reader, RunningMessageService, Session, World, eventually, group, refused, send,
};

/// All kinds of streams that Ben can have open at one replica.
struct OpenStreams {
    reader: Reader,
    inbox: Inbox,
    session: Session,
    send_only: Session,
}

impl OpenStreams {
    async fn at(service: &RunningMessageService) -> Result<Self, Status> {
        let client = service.messages();
        Ok(Self {
            reader: Reader::open(&client, "g", "ben", None).await?,
            inbox: Inbox::subscribe(&client, "ben", &[], SubscribeStart::Now).await?,
            session: Session::open(&client, "ben", &[], SubscribeStart::Now).await?,
            send_only: Session::send_only(&client, "ben").await?,
        })
    }

    async fn all_end(mut self, reason: &str) {
        let ends = [
            self.reader.end().await.1,
            self.inbox.end().await.1,
            self.session.inbox.end().await.1,
            self.send_only.inbox.end().await.1,
        ];
        for status in ends {
            refused::<()>(Err(status), Code::FailedPrecondition, reason);
        }
    }
}

#[tokio::test]
async fn deactivating_or_deleting_a_user_ends_its_streams_on_every_replica() {
    let world = World::with_group().await;
    let replica = world.replica().await;
    let mut ann = follow(&world, "ann", None).await.unwrap();
    ann.catch_up().await;
    for reason in ["USER_DEACTIVATED", "USER_DELETED"] {
        // A reactivated user may act again once every replica is notified.
        let here = eventually(PATIENCE, || OpenStreams::at(&world.message_service)).await;
        let there = eventually(PATIENCE, || OpenStreams::at(&replica)).await;
        match reason {
            "USER_DEACTIVATED" => world.deactivate("ben").await,
            _ => world.delete_user("ben").await,
        }
        let since = Instant::now();
        here.all_end(reason).await;
        there.all_end(reason).await;
        println!("all streams ended {:?} after {reason}", since.elapsed());
        refused(OpenStreams::at(&replica).await.map(drop), Code::FailedPrecondition, reason);
        if reason == "USER_DEACTIVATED" {
            let request = ReactivateUserRequest { user_id: "ben".to_owned() };
            world.user_service.users().reactivate_user(request).await.unwrap();
        }
    }
    world.send("g", "ann", "others go on").await;
    assert_eq!(ann.event().await.sequence, 3);
}

#[tokio::test]
async fn a_missed_deactivation_ends_the_stream_once_user_service_is_reachable() {
    let (world, proxy) = World::with_proxied_user_service(&[]).await;
    world.users(&["ann", "ben"]).await;
    world.create(group("g", "ann", &["ben"])).await;
    // Changes are delivered in order: once this one is, the creation of Ann no longer evicts her from the cache.
    world.users(&["zoe"]).await;
    world.create(group("z", "zoe", &[])).await;
    world.deactivate("zoe").await;
    eventually(PATIENCE, || async {
        let sent = world.try_send(send("z", "zoe", "still active")).await;
        sent.map_or_else(|_| Ok(()), |_| Err("Zoe may still send"))
    })
    .await;
    world.send("g", "ann", "known as active").await;
    let mut reader = follow(&world, "ben", None).await.unwrap();
    reader.catch_up().await;
    // Neither notifications nor answers: that is no verdict.
    proxy.set(Mode::Closed);
    world.deactivate("ben").await;
    world.send("g", "ann", "before the notification").await;
    assert_eq!(reader.event().await.sequence, 4);
    tokio::time::sleep(Duration::from_millis(300)).await;
    proxy.set(Mode::Open);
    let (events, status) = reader.end().await;
    assert!(events.is_empty(), "{events:?}");
    refused::<()>(Err(status), Code::FailedPrecondition, "USER_DEACTIVATED");
}
