//! Load that keeps account: clients that send, retry under the same request id, and remember what they were told.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parlance::message::v1::{
    Event, Message, SendMessageRequest, event::Kind, message_service_client::MessageServiceClient,
};
use tokio::{sync::watch, task::JoinSet};
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt;

use crate::support::{PATIENCE, eventually, send_as, try_read_log};

/// What a client was told, by request id: the message, and how often it asked.
pub(super) type Account = HashMap<String, Message>;

/// Clients that send until they are told to stop.
pub(super) struct Load {
    clients: JoinSet<Account>,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
}

impl Load {
    /// Begins. Each client sends one message after the other to one of the conversations, as `ann`, and repeats what was not
    /// acknowledged, at whatever address is the current one, until it is. `name` keeps request ids of several loads apart.
    pub(super) fn begin(name: &str, clients: usize, conversations: &[&str], at: &watch::Receiver<Channel>) -> Self {
        let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut running = JoinSet::new();
        for client in 0..clients {
            let conversation = conversations[client % conversations.len()].to_owned();
            let client = Client {
                name: format!("{name}-{client}"),
                conversation,
                at: at.clone(),
                stop: stop.clone(),
                acknowledged: acknowledged.clone(),
            };
            running.spawn(client.run());
        }
        Self { clients: running, stop, acknowledged }
    }

    /// How many messages were acknowledged so far.
    pub(super) fn acknowledged(&self) -> usize {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits until this many more are acknowledged.
    pub(super) async fn more(&self, count: usize) {
        let until = self.acknowledged() + count;
        eventually(Duration::from_secs(30), || async {
            let now = self.acknowledged();
            if now >= until { Ok(()) } else { Err(format!("{now} of {until} acknowledged")) }
        })
        .await;
    }

    /// Ends it, once what every client has begun is acknowledged; gives what they were told.
    pub(super) async fn end(self) -> Account {
        self.stop.store(true, Ordering::Relaxed);
        let all = tokio::time::timeout(Duration::from_secs(30), self.clients.join_all()).await;
        all.expect("the last sends are acknowledged").into_iter().flatten().collect()
    }
}

struct Client {
    name: String,
    conversation: String,
    at: watch::Receiver<Channel>,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
}

impl Client {
    async fn run(self) -> Account {
        let mut account = Account::new();
        for n in 0.. {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            let request_id = format!("{}-{n}", self.name);
            let text = format!("text of {request_id}");
            let message = self.persist(&send_as(&request_id, &self.conversation, "ann", &text)).await;
            assert_eq!((&*message.request_id, &*message.text), (&*request_id, &*text));
            account.insert(request_id, message);
            self.acknowledged.fetch_add(1, Ordering::Relaxed);
        }
        account
    }

    /// Repeats a send until it is acknowledged.
    async fn persist(&self, request: &SendMessageRequest) -> Message {
        loop {
            let mut client = MessageServiceClient::new(self.at.borrow().clone());
            let mut asked = tonic::Request::new(request.clone());
            asked.set_timeout(Duration::from_secs(3));
            match client.send_message(asked).await {
                Ok(answer) => return answer.into_inner().message.unwrap(),
                Err(status) => {
                    check_may_be_retried(&status);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }
}

/// Holds a failure against what a caller with a request id may be told while something is broken.
pub(super) fn check_may_be_retried(status: &Status) {
    let Some(info) = status.get_details_error_info() else {
        // Made by the client itself: no connection, a connection that broke, its own clock.
        let own = [Code::Unavailable, Code::Cancelled, Code::DeadlineExceeded, Code::Unknown, Code::Internal];
        assert!(own.contains(&status.code()), "{status:?}");
        return;
    };
    let told = (status.code(), &*info.reason);
    let retry = match told {
        (Code::Unavailable, "DATABASE_UNAVAILABLE" | "DRAINING" | "CONVERSATION_BUSY" | "USER_SERVICE_UNAVAILABLE") => {
            true
        }
        (Code::DeadlineExceeded, "DEADLINE_EXCEEDED") => false,
        _ => panic!("{told:?}: {status:?}"),
    };
    assert_eq!(status.get_details_retry_info().is_some(), retry, "{status:?}");
}

/// Reads whole logs once faults are over: a connection of the pool that broke unnoticed costs one read its answer.
pub(super) async fn read_logs(client: &MessageServiceClient<Channel>, conversations: &[&str]) -> Vec<Vec<Event>> {
    let mut logs = Vec::new();
    for conversation in conversations {
        let read = || {
            let mut client = client.clone();
            async move { try_read_log(&mut client, conversation, "ann", 1000).await }
        };
        logs.push(eventually(PATIENCE, read).await);
    }
    logs
}

/// Holds whole logs against what clients were told: every acknowledged message exactly once, where it was said to be, as it
/// was sent; nothing twice; nothing that nobody sent (`names` are those of the loads).
pub(super) fn check(logs: &[Vec<Event>], account: &Account, names: &[&str]) {
    let mut stored: HashMap<&str, &Message> = HashMap::new();
    for event in logs.iter().flatten() {
        let Some(Kind::MessageSent(message)) = &event.kind else { continue };
        assert_eq!(event.sequence, message.sequence);
        let sent_by_us = names.iter().any(|name| message.request_id.starts_with(&format!("{name}-")));
        assert!(sent_by_us && message.text == format!("text of {}", message.request_id), "a phantom: {message:?}");
        let before = stored.insert(&message.request_id, message);
        assert!(before.is_none(), "stored twice: {before:?} and {message:?}");
    }
    for (request_id, told) in account {
        assert_eq!(stored.get(request_id.as_str()), Some(&told), "acknowledged and not there, or elsewhere");
    }
}
