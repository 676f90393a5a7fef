//! What lasts ends when user-service says that its user may no longer act.

use std::time::{Duration, Instant};

use parlance::{message::v1::SubscribeStart, user::v1::ReactivateUserRequest};
use tonic::{Code, Status};

use super::follow;
use crate::support::{
    Inbox, Mode, PATIENCE, Proxy, Reader, RunningMessageService, RunningUserService, Session, TestDatabase, World,
    eventually, group, message_service_config, refused,
};

/// All that Ben can have open, at one replica.
struct Open {
    reader: Reader,
    inbox: Inbox,
    session: Session,
    to_send: Session,
}

impl Open {
    async fn at(service: &RunningMessageService) -> Result<Self, Status> {
        let client = service.messages();
        Ok(Self {
            reader: Reader::open(&client, "g", "ben", None).await?,
            inbox: Inbox::subscribe(&client, "ben", &[], SubscribeStart::Now).await?,
            session: Session::open(&client, "ben", &[], SubscribeStart::Now).await?,
            to_send: Session::to_send(&client, "ben").await?,
        })
    }

    async fn all_end(mut self, reason: &str) {
        let ends = [
            self.reader.end().await.1,
            self.inbox.end().await.1,
            self.session.inbox.end().await.1,
            self.to_send.inbox.end().await.1,
        ];
        for status in ends {
            refused::<()>(Err(status), Code::FailedPrecondition, reason);
        }
    }
}

#[tokio::test]
async fn all_that_a_user_has_open_ends_on_every_replica_when_it_is_deactivated_or_deleted() {
    let world = World::with_group().await;
    let replica = world.replica().await;
    let mut ann = follow(&world, "ann", None).await.unwrap();
    ann.catch_up().await;
    for reason in ["USER_DEACTIVATED", "USER_DELETED"] {
        // Whoever was reactivated may act again once that is told everywhere.
        let here = eventually(PATIENCE, || Open::at(&world.message_service)).await;
        let there = eventually(PATIENCE, || Open::at(&replica)).await;
        match reason {
            "USER_DEACTIVATED" => world.deactivate("ben").await,
            _ => world.delete_user("ben").await,
        }
        let since = Instant::now();
        here.all_end(reason).await;
        there.all_end(reason).await;
        println!("all streams ended {:?} after {reason}", since.elapsed());
        refused(Open::at(&replica).await.map(drop), Code::FailedPrecondition, reason);
        if reason == "USER_DEACTIVATED" {
            let request = ReactivateUserRequest { user_id: "ben".to_owned() };
            world.user_service.users().reactivate_user(request).await.unwrap();
        }
    }
    world.send("g", "ann", "others go on").await;
    assert_eq!(ann.event().await.sequence, 3);
}

#[tokio::test]
async fn what_nobody_told_of_is_asked_for() {
    let database = TestDatabase::migrated().await;
    let user_service = RunningUserService::start(&database).await;
    let proxy = Proxy::before(user_service.address().to_string(), Mode::Open).await;
    let config = message_service_config(&database.url(), &format!("127.0.0.1:{}", proxy.port()), &[]);
    let message_service = RunningMessageService::start(config).await;
    let world = World { message_service, user_service, database };
    world.users(&["ann", "ben"]).await;
    world.create(group("g", "ann", &["ben"])).await;
    let mut reader = follow(&world, "ben", None).await.unwrap();
    reader.catch_up().await;
    // Nobody tells and nobody answers: that is no verdict.
    proxy.set(Mode::Closed);
    world.deactivate("ben").await;
    world.send("g", "ann", "nobody knows better").await;
    assert_eq!(reader.event().await.sequence, 3);
    tokio::time::sleep(Duration::from_millis(300)).await;
    proxy.set(Mode::Open);
    let (events, status) = reader.end().await;
    assert!(events.is_empty(), "{events:?}");
    refused::<()>(Err(status), Code::FailedPrecondition, "USER_DEACTIVATED");
}
