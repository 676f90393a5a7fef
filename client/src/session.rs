//! The handles of a session that the application holds.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use parlance::message::v1::{Ack, MarkReadRequest, SendMessageRequest, SendTypingRequest, chat_request::Frame};
use tokio::{
    sync::{mpsc, oneshot},
    task::coop::unconstrained,
};
use uuid::Uuid;

use crate::{
    command::Command,
    message::{Draft, SendError, Sent},
    positions::Positions,
    replicas::Replicas,
    settings::{Settings, Start, Transport},
    task,
    update::Update,
};

/// The default of [`SessionBuilder::send_limit`].
const SEND_LIMIT: Duration = Duration::from_mins(1);

/// The most commands that wait for the session's task; beyond that, senders wait.
const MAX_COMMANDS: usize = 256;

/// The most updates that wait for the application, in addition to those that the session's task buffers.
const MAX_UPDATES: usize = 256;

/// A builder of a [`Session`].
#[derive(Debug, Clone)]
pub struct SessionBuilder {
    settings: Settings,
    cursors: HashMap<String, i64>,
    epoch: String,
    send_limit: Duration,
}

impl SessionBuilder {
    pub(crate) fn new(replicas: Replicas, actor_id: String) -> Self {
        let (start, transport) = (Start::default(), Transport::default());
        let settings = Settings { replicas, actor_id, start, transport, send_only: false };
        Self { settings, cursors: HashMap::new(), epoch: String::new(), send_limit: SEND_LIMIT }
    }

    /// Sets the starting point of conversations without a cursor.
    #[must_use]
    pub fn start(mut self, start: Start) -> Self {
        self.settings.start = start;
        self
    }

    /// Resumes from the cursors of an earlier session, see [`Session::cursors`].
    #[must_use]
    pub fn cursors(self, cursors: HashMap<String, i64>) -> Self {
        Self { cursors, ..self }
    }

    /// Names the epoch of the cursors, see [`Session::epoch`]: those of entries that were lost since are closed with
    /// `SEQUENCE_AHEAD`.
    #[must_use]
    pub fn epoch(self, epoch: String) -> Self {
        Self { epoch, ..self }
    }

    /// Sets the RPCs to use.
    #[must_use]
    pub fn transport(mut self, transport: Transport) -> Self {
        self.settings.transport = transport;
        self
    }

    /// Subscribes to nothing: the session only sends.
    #[must_use]
    pub fn send_only(mut self) -> Self {
        self.settings.send_only = true;
        self
    }

    /// Limits the time that a send is retried before it fails with [`SendError::OutcomeUnknown`]; 60 s by default.
    #[must_use]
    pub fn send_limit(self, send_limit: Duration) -> Self {
        Self { send_limit, ..self }
    }

    /// Opens the session, which connects and reconnects in the background. It ends when all its handles are dropped, or the
    /// updates are. Must be called inside a Tokio runtime.
    pub fn open(self) -> (Session, Updates) {
        let (commands, command_receiver) = mpsc::channel(MAX_COMMANDS);
        let (update_sender, updates) = mpsc::channel(MAX_UPDATES);
        let positions = Positions::new(self.cursors, self.epoch);
        let delivered = Arc::new(Mutex::new(positions.clone()));
        task::spawn(self.settings, command_receiver, update_sender, positions);
        let session = Session { commands, delivered: delivered.clone(), send_limit: self.send_limit };
        (session, Updates { updates, delivered })
    }
}

/// A session of one user. Cheap to clone. When the last clone is dropped, the session sends the submitted frames and ends.
#[derive(Debug, Clone)]
pub struct Session {
    commands: mpsc::Sender<Command>,
    /// The positions that the application has reached; the session may be far ahead of them.
    delivered: Arc<Mutex<Positions>>,
    send_limit: Duration,
}

impl Session {
    /// Sends a message and waits until it is stored, over as many connections as needed. Messages to one conversation are
    /// stored in the order in which these futures are first polled, through outages too. Dropping the future does not cancel
    /// the send.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn send(&self, draft: Draft) -> impl Future<Output = Result<Sent, SendError>> + Send + use<> {
        let request_id = draft.request_id.unwrap_or_else(|| Uuid::now_v7().to_string());
        let answer = self.submit(Frame::Send(SendMessageRequest {
            conversation_id: draft.conversation_id,
            sender_id: String::new(),
            text: draft.text,
            attributes: draft.attributes,
            reply_to_sequence: draft.reply_to_sequence,
            request_id,
        }));
        async move {
            let ack = answer.await?;
            Ok(Sent {
                conversation_id: ack.conversation_id,
                sequence: ack.sequence,
                request_id: ack.request_id,
                create_time: ack.create_time,
                duplicate: ack.duplicate,
            })
        }
    }

    /// Advances the user's read mark and returns its new value.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn mark_read(
        &self,
        conversation_id: &str,
        sequence: i64,
    ) -> impl Future<Output = Result<i64, SendError>> + Send + use<> {
        let conversation_id = conversation_id.to_owned();
        let request = MarkReadRequest { conversation_id, sequence, ..MarkReadRequest::default() };
        let answer = self.submit(Frame::MarkRead(request));
        async move { Ok(answer.await?.sequence) }
    }

    /// Notifies the other members that the user is typing. Repeat it every few seconds while the user types.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn typing(&self, conversation_id: &str) -> impl Future<Output = Result<(), SendError>> + Send + use<> {
        let conversation_id = conversation_id.to_owned();
        let answer = self.submit(Frame::Typing(SendTypingRequest { conversation_id, ..SendTypingRequest::default() }));
        async move { answer.await.map(drop) }
    }

    /// Returns the last sequence that [`Updates::next`] has returned of each conversation, from which another session can
    /// resume.
    pub fn cursors(&self) -> HashMap<String, i64> {
        self.delivered.lock().unwrap_or_else(PoisonError::into_inner).to_map()
    }

    /// Returns the epoch of [`cursors`](Self::cursors); empty before [`Updates::next`] has returned one.
    pub fn epoch(&self) -> String {
        self.delivered.lock().unwrap_or_else(PoisonError::into_inner).epoch().to_owned()
    }

    fn submit(&self, frame: Frame) -> impl Future<Output = Result<Ack, SendError>> + Send + use<> {
        let (commands, deadline) = (self.commands.clone(), Instant::now() + self.send_limit);
        async move {
            let (answer, received) = oneshot::channel();
            // Tokio's cooperative budget could delay this send, and so change the order of the frames.
            let sent = unconstrained(commands.send(Command { frame, answer, deadline })).await;
            sent.map_err(|_| SendError::Ended)?;
            drop(commands);
            received.await.unwrap_or(Err(SendError::OutcomeUnknown))
        }
    }
}

/// The updates of a session. The session continues whether or not they are read, but while about 4,000 updates wait it
/// reads nothing more from the server, answers to sends included.
#[derive(Debug)]
pub struct Updates {
    updates: mpsc::Receiver<Update>,
    delivered: Arc<Mutex<Positions>>,
}

impl Updates {
    /// Returns the next update; `None` after the last. Cancel-safe.
    pub async fn next(&mut self) -> Option<Update> {
        let update = self.updates.recv().await?;
        self.delivered.lock().unwrap_or_else(PoisonError::into_inner).advance_past(&update);
        Some(update)
    }
}
