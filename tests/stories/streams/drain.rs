//! The end of a process: streams are drained, acknowledged messages stay, the exit code is 0.

use futures_util::future::join_all;
use tonic::Code;
use tonic_types::StatusExt;

use super::follow;
use crate::support::{
    PATIENCE, Process, Reader, RunningUserService, World, code_and_reason, refused, retry_delay, send_as,
};

#[tokio::test]
async fn a_drain_ends_streams_with_a_resume_hint() {
    let World { message_service, user_service, database } = World::with_group().await;
    let messages = message_service.messages();
    let mut readers = Vec::new();
    for after in [Some(0), None] {
        let mut reader = Reader::open(&messages, "g", "ben", after).await.unwrap();
        reader.catch_up().await;
        readers.push(reader);
    }
    message_service.begin_stop();
    for reader in &mut readers {
        let (events, status) = reader.end().await;
        assert!(events.is_empty() && reader.received_draining());
        let status = refused::<()>(Err(status), Code::Unavailable, "DRAINING");
        assert!(retry_delay(&status).is_some());
    }
    tokio::time::timeout(PATIENCE, message_service.stop()).await.expect("a stop in time").unwrap();
    drop((user_service, database));
}

#[tokio::test]
async fn sigterm_under_load_drains_the_process_and_loses_no_acknowledged_message() {
    let World { message_service, user_service, database } = World::with_group().await;
    let mut process = Process::message_service(&database.url(), &user_service.address().to_string(), &[]).await;
    let mut reader = Reader::open(&process.messages(), "g", "ben", Some(0)).await.unwrap();
    reader.catch_up().await;

    let messages = process.messages();
    let load = join_all((0..8).map(|caller| {
        let mut messages = messages.clone();
        async move {
            let mut acknowledged = Vec::new();
            for n in 0.. {
                match messages.send_message(send_as(&format!("{caller}-{n}"), "g", "ann", "x")).await {
                    Ok(answer) => acknowledged.push(answer.into_inner().message.unwrap()),
                    Err(status) => {
                        // UNAVAILABLE is the only error of the service; without details it comes from the client, whose
                        // connection has ended.
                        if status.get_details_error_info().is_some() {
                            assert_eq!(code_and_reason(&status), (Code::Unavailable, "DRAINING".to_owned()));
                        }
                        return acknowledged;
                    }
                }
            }
            unreachable!("the service ends")
        }
    }));
    let following = async {
        let (events, status) = reader.end().await;
        assert!(reader.received_draining());
        assert_eq!(code_and_reason(&status), (Code::Unavailable, "DRAINING".to_owned()));
        assert!(retry_delay(&status).is_some());
        events.len()
    };
    let ending = async {
        // After the first acknowledged messages.
        crate::support::eventually(PATIENCE, || async {
            let head = message_service.conversations().get_conversation(head()).await.unwrap().into_inner();
            if head.last_sequence > 100 { Ok(()) } else { Err(head.last_sequence) }
        })
        .await;
        process.terminate();
        assert_eq!(process.ended().await.code(), Some(0));
    };
    let (acknowledged, _, ()) = tokio::join!(load, following, ending);
    let mut messages = message_service.messages();
    let log = crate::support::read_log(&mut messages, "g", "ann", 1000).await;
    for message in acknowledged.into_iter().flatten() {
        let entry = &log[message.sequence as usize - 1];
        let kind = entry.kind.clone().unwrap();
        assert_eq!(kind, parlance::message::v1::event::Kind::MessageSent(message));
    }
    drop(database);
}

fn head() -> parlance::message::v1::GetConversationRequest {
    parlance::message::v1::GetConversationRequest { conversation_id: "g".to_owned(), actor_id: "ann".to_owned() }
}

#[tokio::test]
async fn a_stream_resumes_at_its_position_after_a_restart() {
    let World { message_service, user_service, database } = World::with_group().await;
    let mut reader = Reader::open(&message_service.messages(), "g", "ben", Some(0)).await.unwrap();
    let sent = message_service.messages().send_message(send_as("r", "g", "ann", "x")).await.unwrap().into_inner();
    reader.up_to(3).await;
    message_service.stop().await.unwrap();
    let address = RunningUserService::address(&user_service).to_string();
    let config = crate::support::message_service_config(&database.url(), &address, &[]);
    let again = crate::support::RunningMessageService::start(config).await;
    let world = World { message_service: again, user_service, database };
    let mut reader = follow(&world, "ben", Some(2)).await.unwrap();
    let (events, mark) = reader.catch_up().await;
    assert_eq!((events.len(), mark, events[0].sequence), (1, 3, sent.message.unwrap().sequence));
}
