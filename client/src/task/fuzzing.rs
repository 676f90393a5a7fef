//! The entry point of the fuzz target of answers.

#![expect(clippy::expect_used, reason = "a broken law ends the fuzzer")]

use std::{
    cell::LazyCell,
    collections::HashMap,
    time::{Duration, Instant},
};

use parlance::message::v1::{ChatResponse, SendMessageRequest, chat_request::Frame, chat_response::Item};
use prost::Message;
use tokio::{
    runtime::{Builder, Runtime},
    sync::{mpsc, oneshot},
};

use super::{MAX_PENDING, Task, delay_of};
use crate::{
    backoff::Backoff,
    positions::Positions,
    replicas::Replicas,
    settings::{Settings, Start, Transport},
    status,
    update::Update,
};

thread_local! {
    static RUNTIME: LazyCell<Runtime> =
        LazyCell::new(|| Builder::new_current_thread().enable_all().build().expect("a runtime"));
    /// Never connects.
    static REPLICAS: LazyCell<Replicas> = LazyCell::new(|| Replicas::new(["http://127.0.0.1:1"]).expect("an address"));
}

/// Handles length-delimited items as a session does, until one cannot be decoded or ends the connection. The first byte
/// chooses the frames that wait for an answer.
///
/// # Panics
/// If the session delivers entries with gaps, repeats one, or loses count of its frames.
pub fn answers(input: &[u8]) {
    let Some((waiting, mut items)) = input.split_first() else { return };
    RUNTIME.with(|runtime| {
        let _entered = runtime.enter();
        let mut task = task();
        for _ in 0..waiting % 8 {
            let answer = oneshot::channel().0;
            let frame = Frame::Send(SendMessageRequest::default());
            task.queue.push(frame, answer, Instant::now() + Duration::from_mins(1));
            task.queue.next_to_send();
        }
        let (mut delivered, mut last) = (Positions::default(), HashMap::new());
        while let Ok(ChatResponse { item }) = ChatResponse::decode_length_delimited(&mut items) {
            if let Some(Item::Draining(draining)) = &item {
                let _ = delay_of(*draining).map(|delay| Backoff::default().next(Some(delay), 0.5));
            }
            let ended = task.handle(item);
            for update in task.buffered.drain(..) {
                check(&update, &mut last);
                delivered.advance_past(&update);
            }
            if let Err(status) = ended {
                task.queue.requeue_all();
                let _ = (status::is_fatal(&status), status::retry_delay(&status), status::to_proto(&status));
                let _ = task.backoff.next(status::retry_delay(&status), 0.5);
            }
        }
        assert_eq!(delivered.to_map(), task.positions.to_map(), "all was delivered");
        assert!(task.queue.len() <= MAX_PENDING && task.positions.cursors().len() <= input.len());
        task.queue.requeue_all();
        while task.queue.next_to_send().is_some() {}
    });
}

/// Checks that the entries of each conversation follow each other.
fn check(update: &Update, last: &mut HashMap<String, i64>) {
    match update {
        Update::Event(event) if event.sequence > 0 => {
            let before = last.insert(event.conversation_id.clone(), event.sequence);
            assert!(before.is_none_or(|before| before < event.sequence), "an entry twice");
        }
        // The session starts over in it.
        Update::Closed { conversation_id, status } => {
            last.remove(conversation_id);
            let _ = (status::is_retryable(status), status::to_proto(status));
        }
        _ => {}
    }
}

fn task() -> Task {
    let settings = Settings {
        replicas: REPLICAS.with(|replicas| Replicas::clone(replicas)),
        actor_id: "ada".to_owned(),
        start: Start::default(),
        transport: Transport::default(),
        send_only: false,
    };
    Task::new(settings, mpsc::channel(1).1, mpsc::channel(1).0, Positions::default())
}
