//! Load with an account: clients that send, retry under the same request id and remember every acknowledged message,
//! and subscribers that resume from their position whenever their stream ends.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use parlance::message::v1::{
    Event, Message, SendMessageRequest, StreamMessagesRequest, message_service_client::MessageServiceClient,
    stream_messages_response::Item,
};
use parlance_checker::{Reading, Recorder, Violation, check};
use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
};
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt;

use crate::support::{PATIENCE, eventually, send_as, try_read_log};

/// Acknowledged messages, by request id.
pub type Account = HashMap<String, Message>;

/// Whole logs, by conversation.
pub type Logs = BTreeMap<String, Vec<Event>>;

/// Clients that send until they are stopped.
pub struct Load {
    clients: JoinSet<Account>,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
}

impl Load {
    /// Starts the clients. Each sends one message after the other to one of the conversations, as `ann`, and retries
    /// each one, at the current address, until it is acknowledged. Loads of the same name make the same requests.
    pub fn begin(
        recorder: &Recorder,
        name: &str,
        clients: usize,
        conversations: &[&str],
        at: &watch::Receiver<Channel>,
    ) -> Self {
        Self::begin_with(recorder, name, clients, conversations, at, Internal::Fails)
    }

    /// The same, with what an internal error means.
    pub fn begin_with(
        recorder: &Recorder,
        name: &str,
        clients: usize,
        conversations: &[&str],
        at: &watch::Receiver<Channel>,
        internal: Internal,
    ) -> Self {
        let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut running = JoinSet::new();
        for client in 0..clients {
            let conversation = conversations[client % conversations.len()].to_owned();
            let client = Client {
                recorder: recorder.clone(),
                name: format!("{name}-{client}"),
                conversation,
                at: at.clone(),
                stop: stop.clone(),
                acknowledged: acknowledged.clone(),
                internal,
            };
            running.spawn(client.run());
        }
        Self { clients: running, stop, acknowledged }
    }

    /// The number of messages acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits until this many more are acknowledged.
    pub async fn wait_for(&self, count: usize) {
        self.wait_within(Duration::from_secs(30), count).await;
    }

    /// The same, of so many that it may take long.
    pub async fn wait_for_long(&self, count: usize) {
        self.wait_within(Duration::from_secs(30) + Duration::from_millis(20) * count as u32, count).await;
    }

    async fn wait_within(&self, patience: Duration, count: usize) {
        let until = self.acknowledged() + count;
        eventually(patience, || async {
            let now = self.acknowledged();
            if now >= until { Ok(()) } else { Err(format!("{now} of {until} acknowledged")) }
        })
        .await;
    }

    /// Stops once every send in flight is acknowledged; returns the acknowledged messages.
    pub async fn end(self) -> Account {
        self.stop.store(true, Ordering::Relaxed);
        let all = tokio::time::timeout(Duration::from_secs(30), self.clients.join_all()).await;
        all.expect("the last sends are acknowledged").into_iter().flatten().collect()
    }
}

/// The meaning of an internal error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Internal {
    /// No fault may cause one.
    Fails,
    /// A planted bug may: the send is given up.
    GivesUp,
}

struct Client {
    recorder: Recorder,
    name: String,
    conversation: String,
    at: watch::Receiver<Channel>,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
    internal: Internal,
}

impl Client {
    async fn run(self) -> Account {
        let mut account = Account::new();
        for n in 0.. {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            let request_id = format!("{}-{n}", self.name);
            let request = send_as(&request_id, &self.conversation, "ann", &format!("text of {request_id}"));
            let sending = self.recorder.sends(&request);
            let Some(message) = self.send_until_acknowledged(&request).await else { continue };
            assert_eq!((&*message.request_id, &message.text), (&*request_id, &request.text));
            sending.acknowledged(message.sequence);
            account.insert(request_id, message);
            self.acknowledged.fetch_add(1, Ordering::Relaxed);
        }
        account
    }

    /// Retries a send until it is acknowledged or given up.
    async fn send_until_acknowledged(&self, request: &SendMessageRequest) -> Option<Message> {
        loop {
            let mut client = MessageServiceClient::new(self.at.borrow().clone());
            let mut asked = tonic::Request::new(request.clone());
            asked.set_timeout(Duration::from_secs(3));
            match client.send_message(asked).await {
                Ok(answer) => return Some(answer.into_inner().message.expect("a message")),
                Err(status) if status.code() == Code::Internal && self.internal == Internal::GivesUp => return None,
                Err(status) => {
                    check_retryable(&status);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }
}

/// Checks an error against those that a caller with a request id may get during a fault.
fn check_retryable(status: &Status) {
    let Some(info) = status.get_details_error_info() else {
        // From the client itself: no connection, a broken connection, its own deadline.
        let own = [Code::Unavailable, Code::Cancelled, Code::DeadlineExceeded, Code::Unknown, Code::Internal];
        assert!(own.contains(&status.code()), "{status:?}");
        return;
    };
    let received = (status.code(), &*info.reason);
    let retry = match received {
        (Code::Unavailable, "DATABASE_UNAVAILABLE" | "DRAINING" | "CONVERSATION_BUSY" | "USER_SERVICE_UNAVAILABLE") => {
            true
        }
        (Code::DeadlineExceeded, "DEADLINE_EXCEEDED") => false,
        _ => panic!("{received:?}: {status:?}"),
    };
    assert_eq!(status.get_details_retry_info().is_some(), retry, "{status:?}");
}

/// A subscriber of a conversation from its beginning, as `ben`, that resumes from its position whenever its stream
/// ends.
pub struct Subscriber {
    reading: Arc<Reading>,
    position: Arc<AtomicI64>,
    task: JoinHandle<()>,
}

impl Subscriber {
    /// Starts, at the current address.
    pub fn begin(recorder: &Recorder, name: &str, conversation_id: &str, at: &watch::Receiver<Channel>) -> Self {
        let reading = Arc::new(recorder.reads(name, conversation_id, 0));
        let position = Arc::new(AtomicI64::new(0));
        let (conversation_id, at) = (conversation_id.to_owned(), at.clone());
        let task = tokio::spawn({
            let (reading, position) = (reading.clone(), position.clone());
            async move {
                loop {
                    let request = StreamMessagesRequest {
                        conversation_id: conversation_id.clone(),
                        actor_id: "ben".to_owned(),
                        after_sequence: Some(position.load(Ordering::Relaxed)),
                        ..Default::default()
                    };
                    let mut client = MessageServiceClient::new(at.borrow().clone());
                    let opened = tokio::time::timeout(Duration::from_secs(3), client.stream_messages(request)).await;
                    if let Ok(Ok(stream)) = opened {
                        let mut stream = stream.into_inner();
                        while let Ok(Some(received)) = stream.message().await {
                            if let Some(Item::Event(event)) = received.item {
                                position.fetch_max(event.sequence, Ordering::Relaxed);
                                reading.received(&event);
                            }
                        }
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        });
        Self { reading, position, task }
    }

    /// The last sequence received.
    pub fn position(&self) -> i64 {
        self.position.load(Ordering::Relaxed)
    }

    /// Ends once everything up to the head is received, or after the timeout.
    async fn end(self, head: i64, patience: Duration) {
        let began = Instant::now();
        while self.position() < head && began.elapsed() < patience {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.task.abort();
        let _ = self.task.await;
        self.reading.must_have_all();
    }
}

/// Reads whole logs once faults are over. A pooled connection that broke unnoticed fails one read, so each is retried.
pub async fn read_logs(client: &MessageServiceClient<Channel>, conversations: &[&str]) -> Logs {
    let mut logs = Logs::new();
    for conversation in conversations {
        let read = || {
            let mut client = client.clone();
            async move { try_read_log(&mut client, conversation, "ann", 1000).await }
        };
        logs.insert((*conversation).to_owned(), eventually(PATIENCE, read).await);
    }
    logs
}

/// Waits until the subscribers have received everything, and checks the history against the logs.
pub async fn check_history(
    recorder: &Recorder,
    subscribers: Vec<(&str, Subscriber)>,
    logs: &Logs,
    patience: Duration,
) -> Vec<Violation> {
    for (conversation_id, subscriber) in subscribers {
        subscriber.end(logs[conversation_id].len() as i64, patience).await;
    }
    check(&recorder.history(), logs)
}

/// Fails with the broken promises, if any.
pub fn assert_kept(violations: &[Violation]) {
    let first: Vec<String> = violations.iter().take(10).map(ToString::to_string).collect();
    assert!(violations.is_empty(), "{} promises broken:\n{}", violations.len(), first.join("\n"));
}
