//! A session as the application holds it.

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use parlance::message::v1::{Ack, Event, MarkReadRequest, SendMessageRequest, SendTypingRequest, chat_request::Frame};
use tokio::{
    sync::{mpsc, oneshot},
    task::coop::unconstrained,
};
use tonic::Status;
use uuid::Uuid;

use crate::{client::Client, ledger::Ledger, run};

/// How long a send is tried before the application is told that nobody knows.
const SEND_LIMIT: Duration = Duration::from_mins(1);

/// The most sends that wait for the session to take them; who sends more waits.
const MAX_COMMANDS: usize = 256;

/// The most updates that wait for the application, beside what the session keeps back itself.
const MAX_UPDATES: usize = 256;

/// Where conversations begin that no cursor is given for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// After the user's own read mark.
    #[default]
    ReadMark,
    /// With what comes from now on.
    Now,
    /// At the first entry that is kept.
    Beginning,
}

/// What a session runs over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Transport {
    /// One stream in both directions.
    #[default]
    Chat,
    /// A stream from the server, and a call for each send: what gRPC-Web has.
    Subscribe,
}

/// What happens in a session, in order.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "nearly all of them are events")]
pub enum Update {
    /// The next entry of a conversation, each once and without a gap; or, with sequence 0, something that is live only.
    Event(Event),
    /// Everything of this conversation up to its head has been told.
    CaughtUp {
        /// The conversation.
        conversation_id: String,
        /// The head.
        sequence: i64,
    },
    /// The same of all conversations. Comes again after every reconnect.
    AllCaughtUp,
    /// What was before this is no longer kept.
    Truncated {
        /// The conversation.
        conversation_id: String,
        /// The first that is.
        oldest_sequence: i64,
    },
    /// Nothing more comes of this conversation, unless the user joins it again.
    Closed {
        /// The conversation.
        conversation_id: String,
        /// Why.
        status: Status,
    },
    /// The session is connected.
    Connected,
    /// It is not, and tries again.
    Disconnected {
        /// Why.
        cause: Status,
        /// After this long.
        retry_in: Duration,
    },
    /// It has ended for good, and this is the last update: the user may not act, or something was asked for that cannot be.
    Ended(Status),
}

/// A message to be sent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Draft {
    /// The conversation.
    pub conversation_id: String,
    /// 1 to 16,384 bytes.
    pub text: String,
    /// For the application.
    pub attributes: BTreeMap<String, String>,
    /// The message that this answers, or 0.
    pub reply_to_sequence: i64,
    /// `None`: one is made. Give one to send something that was perhaps sent before.
    pub request_id: Option<String>,
}

impl Draft {
    /// Just a text.
    pub fn text(conversation_id: impl Into<String>, text: impl Into<String>) -> Self {
        Self { conversation_id: conversation_id.into(), text: text.into(), ..Self::default() }
    }
}

/// A message that is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Sent {
    /// The conversation.
    pub conversation_id: String,
    /// Its place there.
    pub sequence: i64,
    /// The id that it was sent with.
    pub request_id: String,
    /// When it was stored.
    pub create_time: Option<prost_types::Timestamp>,
    /// An earlier try had stored it.
    pub duplicate: bool,
}

/// Why a message is not known to be stored.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SendError {
    /// The service refuses it; it is not stored.
    #[error("refused: {}", .0.message())]
    Refused(Status),
    /// There was no answer in time. It may be stored: send it again with the same `request_id` to find out.
    #[error("no answer in time; it may be stored")]
    OutcomeUnknown,
    /// The session has ended before it was sent; it is not stored.
    #[error("the session has ended")]
    Ended,
}

pub(crate) type Waiter = oneshot::Sender<Result<Ack, SendError>>;

/// What the application asks for.
pub(crate) struct Command {
    pub(crate) frame: Frame,
    pub(crate) waiter: Waiter,
    pub(crate) deadline: Instant,
}

/// How a session is to be.
#[derive(Debug, Clone)]
pub struct SessionBuilder {
    pub(crate) client: Client,
    pub(crate) actor_id: String,
    pub(crate) start: Start,
    pub(crate) transport: Transport,
    pub(crate) send_only: bool,
    cursors: HashMap<String, i64>,
    send_limit: Duration,
}

impl SessionBuilder {
    pub(crate) fn new(client: Client, actor_id: String) -> Self {
        Self {
            client,
            actor_id,
            start: Start::default(),
            transport: Transport::default(),
            send_only: false,
            cursors: HashMap::new(),
            send_limit: SEND_LIMIT,
        }
    }

    /// Where conversations begin that no cursor is given for.
    #[must_use]
    pub fn start(self, start: Start) -> Self {
        Self { start, ..self }
    }

    /// Takes up where an earlier session was, see [`Session::cursors`].
    #[must_use]
    pub fn cursors(self, cursors: HashMap<String, i64>) -> Self {
        Self { cursors, ..self }
    }

    /// What to run over.
    #[must_use]
    pub fn transport(self, transport: Transport) -> Self {
        Self { transport, ..self }
    }

    /// Nothing is to be told: the session only sends.
    #[must_use]
    pub fn send_only(self) -> Self {
        Self { send_only: true, ..self }
    }

    /// How long a send is tried; 60 s if nothing is said.
    #[must_use]
    pub fn send_limit(self, send_limit: Duration) -> Self {
        Self { send_limit, ..self }
    }

    /// Begins. The session connects by itself, now and whenever it must; it ends when all its handles are dropped, or the
    /// updates are. Call it inside a Tokio runtime.
    pub fn open(mut self) -> (Session, Updates) {
        let (commands, asked) = mpsc::channel(MAX_COMMANDS);
        let (updates, told) = mpsc::channel(MAX_UPDATES);
        let ledger = Ledger::new(std::mem::take(&mut self.cursors));
        let taken = Arc::new(Mutex::new(ledger.clone()));
        let send_limit = self.send_limit;
        run::start(self, asked, updates, ledger);
        (Session { commands, taken: taken.clone(), send_limit }, Updates { told, taken })
    }
}

/// A session of one user. Cheap to clone; when the last clone is dropped it sends what was asked for, and ends.
#[derive(Debug, Clone)]
pub struct Session {
    commands: mpsc::Sender<Command>,
    /// Where the application is, which the session may be far ahead of.
    taken: Arc<Mutex<Ledger>>,
    send_limit: Duration,
}

impl Session {
    /// Sends a message and waits until it is stored, over as many connections as it takes. Messages of one conversation are
    /// stored in the order in which these futures are first polled. A future that is dropped does not unsend.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn send(&self, draft: Draft) -> impl Future<Output = Result<Sent, SendError>> + Send + use<> {
        let request_id = draft.request_id.unwrap_or_else(|| Uuid::now_v7().to_string());
        let frame = Frame::Send(SendMessageRequest {
            conversation_id: draft.conversation_id,
            sender_id: String::new(),
            text: draft.text,
            attributes: draft.attributes,
            reply_to_sequence: draft.reply_to_sequence,
            request_id,
        });
        let done = self.ask(frame);
        async move {
            let ack = done.await?;
            Ok(Sent {
                conversation_id: ack.conversation_id,
                sequence: ack.sequence,
                request_id: ack.request_id,
                create_time: ack.create_time,
                duplicate: ack.duplicate,
            })
        }
    }

    /// Moves the user's read mark up; gives where it is then.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn mark_read(
        &self,
        conversation_id: &str,
        sequence: i64,
    ) -> impl Future<Output = Result<i64, SendError>> + Send + use<> {
        let conversation_id = conversation_id.to_owned();
        let done =
            self.ask(Frame::MarkRead(MarkReadRequest { conversation_id, sequence, ..MarkReadRequest::default() }));
        async move { Ok(done.await?.sequence) }
    }

    /// Says that the user is typing. Worth repeating every few seconds.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn typing(&self, conversation_id: &str) -> impl Future<Output = Result<(), SendError>> + Send + use<> {
        let conversation_id = conversation_id.to_owned();
        let done = self.ask(Frame::Typing(SendTypingRequest { conversation_id, ..SendTypingRequest::default() }));
        async move { done.await.map(drop) }
    }

    /// The last sequence of each conversation that [`Updates::next`] has given: what another session can take up with.
    pub fn cursors(&self) -> HashMap<String, i64> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).positions()
    }

    fn ask(&self, frame: Frame) -> impl Future<Output = Result<Ack, SendError>> + Send + use<> {
        let (commands, deadline) = (self.commands.clone(), Instant::now() + self.send_limit);
        async move {
            let (waiter, answer) = oneshot::channel();
            // Without this a task that has done much is told to wait and is given no place in the queue.
            let sent = unconstrained(commands.send(Command { frame, waiter, deadline })).await;
            sent.map_err(|_| SendError::Ended)?;
            drop(commands);
            answer.await.unwrap_or(Err(SendError::OutcomeUnknown))
        }
    }
}

/// What happens in a session. The session goes on whether it is read or not, but when about 4,000 updates wait it takes
/// nothing more from the server, answers to sends included.
#[derive(Debug)]
pub struct Updates {
    told: mpsc::Receiver<Update>,
    taken: Arc<Mutex<Ledger>>,
}

impl Updates {
    /// The next one; `None` after the last. May be dropped at any time.
    pub async fn next(&mut self) -> Option<Update> {
        let update = self.told.recv().await?;
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).take(&update);
        Some(update)
    }
}
