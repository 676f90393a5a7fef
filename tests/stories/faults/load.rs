//! Load that keeps account: clients that send, retry under the same request id and remember what they were told, and others
//! that follow all the time and come back with the sequence they have.

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

/// What a client was told, by request id.
pub type Account = HashMap<String, Message>;

/// Whole logs, by conversation.
pub type Logs = BTreeMap<String, Vec<Event>>;

/// Clients that send until they are told to stop.
pub struct Load {
    clients: JoinSet<Account>,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
}

impl Load {
    /// Begins. Each client sends one message after the other to one of the conversations, as `ann`, and repeats what was not
    /// acknowledged, at whatever address is the current one, until it is. Loads of the same name make the same requests.
    pub fn begin(
        recorder: &Recorder,
        name: &str,
        clients: usize,
        conversations: &[&str],
        at: &watch::Receiver<Channel>,
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
            };
            running.spawn(client.run());
        }
        Self { clients: running, stop, acknowledged }
    }

    /// How many messages were acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits until this many more are acknowledged.
    pub async fn more(&self, count: usize) {
        let until = self.acknowledged() + count;
        eventually(Duration::from_secs(30), || async {
            let now = self.acknowledged();
            if now >= until { Ok(()) } else { Err(format!("{now} of {until} acknowledged")) }
        })
        .await;
    }

    /// Ends it, once what every client has begun is acknowledged; gives what they were told.
    pub async fn end(self) -> Account {
        self.stop.store(true, Ordering::Relaxed);
        let all = tokio::time::timeout(Duration::from_secs(30), self.clients.join_all()).await;
        all.expect("the last sends are acknowledged").into_iter().flatten().collect()
    }
}

struct Client {
    recorder: Recorder,
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
            let request = send_as(&request_id, &self.conversation, "ann", &format!("text of {request_id}"));
            let sending = self.recorder.sends(&request);
            let message = self.persist(&request).await;
            assert_eq!((&*message.request_id, &message.text), (&*request_id, &request.text));
            sending.acknowledged(message.sequence);
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
fn check_may_be_retried(status: &Status) {
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

/// One who follows a conversation from its beginning, as `ben`, and comes back with the sequence it has whenever its stream
/// ends.
pub struct Follower {
    reading: Arc<Reading>,
    position: Arc<AtomicI64>,
    task: JoinHandle<()>,
}

impl Follower {
    /// Begins, at whatever address is the current one.
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
                    };
                    let mut client = MessageServiceClient::new(at.borrow().clone());
                    let opened = tokio::time::timeout(Duration::from_secs(3), client.stream_messages(request)).await;
                    if let Ok(Ok(stream)) = opened {
                        let mut stream = stream.into_inner();
                        while let Ok(Some(told)) = stream.message().await {
                            if let Some(Item::Event(event)) = told.item {
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

    /// How far it is.
    pub fn position(&self) -> i64 {
        self.position.load(Ordering::Relaxed)
    }

    /// Ends once it was told everything up to there, or has had its time.
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

/// Reads whole logs once faults are over: a connection of the pool that broke unnoticed costs one read its answer.
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

/// Waits until the followers have been told all there is, and holds everything against the logs.
pub async fn hold(
    recorder: &Recorder,
    followers: Vec<(&str, Follower)>,
    logs: &Logs,
    patience: Duration,
) -> Vec<Violation> {
    for (conversation_id, follower) in followers {
        follower.end(logs[conversation_id].len() as i64, patience).await;
    }
    check(&recorder.history(), logs)
}

/// Fails with what was broken, if anything was.
pub fn kept(violations: &[Violation]) {
    let first: Vec<String> = violations.iter().take(10).map(ToString::to_string).collect();
    assert!(violations.is_empty(), "{} promises broken:\n{}", violations.len(), first.join("\n"));
}
