use parlance::message::v1::{ChatOpen, SubscribeStart, chat_request::Frame};
use sqlx::{Connection, Executor};
use tonic::Code;

use crate::support::{
    Received, RunningMessageService, Session, World, group, message_service_config, refused, send_as,
};

#[tokio::test]
async fn a_half_close_delivers_pending_responses_and_ends_with_ok() {
    let world = World::with_group().await;
    let mut ann = Session::send_only(&world.messages(), "ann").await.unwrap();
    let frames: Vec<u64> = (0..100).map(|n| ann.send("g", &format!("{n}"))).collect();
    ann.half_close();
    let (received, status) = ann.inbox.end().await;
    assert_eq!(status.code(), Code::Ok, "{status:?}");
    let mut answered: Vec<u64> = received
        .iter()
        .map(|received| if let Received::Ack(ack) = received { ack.frame_id } else { panic!("{received:?}") })
        .collect();
    answered.sort_unstable();
    assert_eq!(answered, frames);

    let mut ben = Session::open(&world.messages(), "ben", &[], SubscribeStart::Now).await.unwrap();
    ben.half_close();
    assert_eq!(ben.inbox.end().await.1.code(), Code::Ok);
    let mut silent = Session::begin(&world.messages()).await.unwrap();
    silent.half_close();
    assert_eq!(silent.inbox.end().await.1.code(), Code::Ok);
}

#[tokio::test]
async fn only_an_active_user_may_open_a_session() {
    let world = World::with_group().await;
    world.deactivate("cat").await;
    let ask = async |user: &str| Session::send_only(&world.messages(), user).await;
    refused(ask("missing").await, Code::NotFound, "USER_NOT_FOUND");
    refused(ask("cat").await, Code::FailedPrecondition, "USER_DEACTIVATED");
}

#[tokio::test]
async fn a_session_that_is_not_opened_in_time_ends() {
    let world = World::with_group().await;
    let mut silent = Session::begin(&world.messages()).await.unwrap();
    // A frame that opens nothing does not help.
    silent.send("g", "too early");
    let (received, status) = silent.inbox.end().await;
    assert!(matches!(&received[..], [Received::Nack(_)]), "{received:?}");
    refused::<()>(Err(status), Code::FailedPrecondition, "SESSION_NOT_OPEN");
}

#[tokio::test]
async fn a_drain_answers_frames_already_read_and_ends_the_session() {
    let world = World::with_group().await;
    let replica = world.replica().await;
    let mut ann = Session::open(&replica.messages(), "ann", &[], SubscribeStart::Now).await.unwrap();
    ann.inbox.catch_up().await;
    // From here on the replica has cached Ann, and a send is queued as soon as it is read.
    ann.send("g", "first");
    ann.answer().await.unwrap();
    let mut outside = world.database.connect().await;
    let mut holding = outside.begin().await.unwrap();
    holding.execute("SELECT FROM parlance_message.conversations WHERE conversation_id = 'g' FOR UPDATE").await.unwrap();
    let sent = ann.send("g", "in time");
    // An immediate refusal shows that the frames before it were read.
    let bad = ann.send("g", " ");
    assert_eq!(ann.answer().await.unwrap_err().0, bad);
    replica.begin_stop();
    ann.inbox.until(|received| *received == Received::Draining).await;
    holding.rollback().await.unwrap();
    let (received, status) = ann.inbox.end().await;
    assert!(matches!(&received[..], [Received::Ack(ack)] if ack.frame_id == sent), "{received:?}");
    refused::<()>(Err(status), Code::Unavailable, "DRAINING");
}

#[tokio::test]
async fn a_disconnected_client_leaves_no_task_behind() {
    let world = World::with_group().await;
    let address = world.user_service.address().to_string();
    // A stop waits this long for running calls: longer than any story waits for the stop.
    let config = message_service_config(&world.database.url(), &address, &["--drain-timeout", "10m"]);
    let service = RunningMessageService::start(config).await;
    let mut outside = world.database.connect().await;
    let mut holding = outside.begin().await.unwrap();
    holding.execute("SELECT FROM parlance_message.conversations WHERE conversation_id = 'g' FOR UPDATE").await.unwrap();
    for user in ["ann", "ben"] {
        let mut session = Session::open(&service.messages(), user, &[], SubscribeStart::Now).await.unwrap();
        session.inbox.catch_up().await;
        session.send("g", "into the void");
        let silent = Session::begin(&service.messages()).await.unwrap();
        let mut half = Session::begin(&service.messages()).await.unwrap();
        half.frame(Frame::Open(ChatOpen { actor_id: user.to_owned(), ..Default::default() }));
        drop((session, silent, half));
    }
    holding.rollback().await.unwrap();
    tokio::time::timeout(crate::support::PATIENCE, service.stop()).await.expect("nothing is left running").unwrap();
}

#[tokio::test]
async fn a_deactivated_sender_still_gets_the_acks_of_stored_messages() {
    let world = World::with_group().await;
    world.create(group("h", "ann", &[])).await;
    let mut ann = Session::send_only(&world.messages(), "ann").await.unwrap();
    ann.send("g", "first");
    ann.answer().await.unwrap();
    let mut outside = world.database.connect().await;
    let mut holding = outside.begin().await.unwrap();
    holding.execute("SELECT FROM parlance_message.conversations WHERE conversation_id = 'g' FOR UPDATE").await.unwrap();
    let sent = ann.send("g", "in time");
    // An immediate refusal shows that the frames before it were read.
    let bad = ann.send("g", " ");
    assert_eq!(ann.answer().await.unwrap_err().0, bad);
    world.deactivate("ann").await;
    // The session's next sends are stored or not, until it sees the deactivation at about the same time as other calls.
    let mut frames = 0;
    while !matches!(world.try_send(send_as("r", "h", "ann", "x")).await, Err(status) if status.code() == Code::FailedPrecondition)
    {
        if frames < 100 {
            ann.send("g", "at the same time");
            frames += 1;
        }
    }
    holding.rollback().await.unwrap();
    let (received, status) = ann.inbox.end().await;
    let acks = received.iter().filter_map(|received| if let Received::Ack(ack) = received { Some(ack) } else { None });
    let acks: Vec<u64> = acks.map(|ack| ack.frame_id).collect();
    assert!(acks.contains(&sent), "{received:?}");
    // The entries of the creation and the first message are older.
    assert_eq!(acks.len(), world.log("g", "ben").await.len() - 3, "each stored message has its ack");
    refused::<()>(Err(status), Code::FailedPrecondition, "USER_DEACTIVATED");
}
