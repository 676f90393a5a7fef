//! The task of a session: connects, delivers updates, sends frames, and reconnects when a connection is lost.

#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use parlance::message::v1::{
    CaughtUp, ChatOpen, ChatResponse, Draining, Event, Nack, SubscribeStart, chat_response::Item,
};
use tokio::{
    sync::mpsc,
    time::{Instant as TokioInstant, sleep_until, timeout},
};
use tonic::{Status, transport::Channel};

use crate::{
    backoff::Backoff,
    command::{AnswerSender, Command},
    connection::{self, Connection},
    frame_queue::{FrameQueue, Pending},
    message::SendError,
    positions::{Positions, Verdict},
    settings::{Settings, Start, Transport},
    status,
    update::Update,
};

/// The most unanswered frames; the service allows 256.
const WINDOW: usize = 128;

/// The most frames in the queue; beyond that, commands wait.
const MAX_PENDING: usize = 1_024;

/// The most updates buffered for an application that does not read them.
const MAX_BUFFERED: usize = 4_096;

/// The silence after which a connection is considered lost; the service sends a heartbeat every 30 s at the latest.
const SILENCE_LIMIT: Duration = Duration::from_secs(45);

/// The most time from connecting to `opened`.
const OPEN_TIMEOUT: Duration = Duration::from_secs(15);

/// The pause before a refused frame is sent again, unless the service requests another one.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

#[expect(clippy::disallowed_methods, reason = "a client has no life cycle but that of its handles, which end the task")]
pub(crate) fn spawn(
    settings: Settings,
    commands: mpsc::Receiver<Command>,
    updates: mpsc::Sender<Update>,
    positions: Positions,
) {
    tokio::spawn(Task::new(settings, commands, updates, positions).run());
}

struct Task {
    settings: Settings,
    commands: mpsc::Receiver<Command>,
    updates: mpsc::Sender<Update>,
    positions: Positions,
    queue: FrameQueue<AnswerSender>,
    buffered: VecDeque<Update>,
    backoff: Backoff,
    /// True once all conversations have caught up: conversations unknown after that were joined since.
    was_caught_up: bool,
    /// True when all handles of the session are dropped.
    is_closing: bool,
    /// Nothing is sent before this time.
    send_after: Option<Instant>,
}

/// The reason why a connection ended.
enum End {
    /// The application has dropped the session.
    Dropped,
    /// The connection was lost. The session may reconnect, after this delay if the server requested one.
    Lost(Status, Option<Duration>),
}

impl Task {
    fn new(
        settings: Settings,
        commands: mpsc::Receiver<Command>,
        updates: mpsc::Sender<Update>,
        positions: Positions,
    ) -> Self {
        Self {
            settings,
            commands,
            updates,
            positions,
            queue: FrameQueue::new(WINDOW),
            buffered: VecDeque::new(),
            backoff: Backoff::default(),
            was_caught_up: false,
            is_closing: false,
            send_after: None,
        }
    }

    async fn run(mut self) {
        let fatal = loop {
            let (replica, channel) = self.settings.replicas.current();
            let end = self.run_connection(channel).await;
            self.queue.requeue_all();
            match end {
                End::Dropped => break None,
                End::Lost(cause, _) if status::is_fatal(&cause) => break Some(cause),
                End::Lost(cause, requested) => {
                    self.settings.replicas.report_failure(replica);
                    let requested = requested.or_else(|| status::retry_delay(&cause));
                    let retry_in = self.backoff.next(requested, fastrand::f64());
                    self.buffer(Update::Disconnected { cause, retry_in });
                    if self.pause(retry_in).await {
                        break None;
                    }
                }
            }
        };
        self.finish(fatal).await;
    }

    /// Answers the frames that remain and delivers the updates that remain.
    async fn finish(mut self, fatal: Option<Status>) {
        self.queue.take_all().into_iter().for_each(fail);
        // What is submitted from now on fails at once, also while the application does not take its updates.
        self.commands.close();
        while let Some(Command { answer, .. }) = self.commands.recv().await {
            let _ = answer.send(Err(SendError::Ended));
        }
        self.buffered.extend(fatal.map(Update::Ended));
        while let Some(update) = self.buffered.pop_front() {
            if self.updates.send(update).await.is_err() {
                return;
            }
        }
    }

    /// Opens a connection and uses it until it ends.
    async fn run_connection(&mut self, channel: Channel) -> End {
        match timeout(OPEN_TIMEOUT, self.open(channel)).await {
            Ok(Ok(connection)) => {
                // A session that receives is of use once it has caught up: one that breaks before must not retry at once.
                if self.settings.send_only {
                    self.backoff.reset();
                }
                self.buffer(Update::Connected);
                self.exchange(connection).await
            }
            Ok(Err(status)) => End::Lost(status, None),
            Err(_) => End::Lost(Status::deadline_exceeded("the session did not open in time"), None),
        }
    }

    async fn open(&mut self, channel: Channel) -> Result<Connection, Status> {
        let start = match (self.settings.start, self.was_caught_up) {
            (Start::ReadMark, _) | (_, true) => SubscribeStart::ReadMark,
            (Start::Now, false) => SubscribeStart::Now,
            (Start::Beginning, false) => SubscribeStart::Beginning,
        };
        let send_only = self.settings.send_only;
        let cursors = if send_only { Vec::new() } else { self.positions.cursors() };
        let epoch = self.positions.epoch().to_owned();
        let actor_id = self.settings.actor_id.clone();
        let open = ChatOpen { actor_id, cursors, start: start.into(), send_only, epoch, more_cursors: false };
        let frame_id = self.queue.next_frame_id();
        let mut connection = connection::connect(channel, self.settings.transport, frame_id, open).await?;
        match connection.items.next().await {
            Some(Ok(ChatResponse { item: Some(Item::Opened(_)) })) => Ok(connection),
            Some(Ok(ChatResponse { item: Some(Item::Nack(nack)) })) => Err(status::from_proto(nack.status)),
            Some(Ok(ChatResponse { item: Some(Item::Draining(_)) })) | None => Err(status::stream_ended()),
            Some(Ok(other)) => Err(Status::internal(format!("expected opened, received {other:?}"))),
            Some(Err(status)) => Err(status),
        }
    }

    /// Exchanges frames and items over one connection until it ends.
    async fn exchange(&mut self, mut connection: Connection) -> End {
        let mut last_item_at = Instant::now();
        let mut retry_delay: Option<Duration> = None;
        let updates = self.updates.clone();
        loop {
            if self.updates.is_closed() && !self.settings.send_only {
                return End::Dropped;
            }
            self.send_frames(&connection);
            if self.is_closing && self.queue.is_empty() {
                // The half-close. The application still receives what the server sends until the end.
                connection.frames = None;
            }
            let (deadline, send_after) = (self.queue.next_deadline(), self.send_after);
            let takes_items = self.buffered.len() < MAX_BUFFERED;
            if !takes_items {
                // The silence is the application's.
                last_item_at = Instant::now();
            }
            let takes_commands = self.takes_commands();
            tokio::select! {
                item = connection.items.next(), if takes_items => {
                    last_item_at = Instant::now();
                    match item {
                        Some(Ok(ChatResponse { item: Some(Item::Draining(draining)) })) => retry_delay = delay_of(draining),
                        Some(Ok(ChatResponse { item })) => if let Err(cause) = self.handle(item) {
                            return End::Lost(cause, None);
                        },
                        None if self.is_closing && self.queue.is_empty() => return End::Dropped,
                        None => return End::Lost(status::stream_ended(), retry_delay),
                        Some(Err(status)) => return End::Lost(status, retry_delay),
                    }
                }
                command = self.commands.recv(), if takes_commands => self.accept(command),
                permit = updates.reserve(), if !self.buffered.is_empty() => if self.deliver(permit) {
                    return End::Dropped;
                },
                () = until(deadline), if deadline.is_some() => self.expire(),
                () = until(send_after), if send_after.is_some() => self.send_after = None,
                () = until(Some(last_item_at + SILENCE_LIMIT)), if takes_items && self.hears_heartbeats() => {
                    return End::Lost(Status::unavailable("the server has been silent for too long"), None);
                }
            }
        }
    }

    /// Waits before the next attempt to connect. Returns true when the application has dropped the session.
    async fn pause(&mut self, pause: Duration) -> bool {
        let end = Instant::now() + pause;
        let updates = self.updates.clone();
        loop {
            if self.is_closing && self.queue.is_empty() {
                return true;
            }
            let deadline = self.queue.next_deadline();
            let takes_commands = self.takes_commands();
            tokio::select! {
                () = until(Some(end)) => return false,
                command = self.commands.recv(), if takes_commands => self.accept(command),
                permit = updates.reserve(), if !self.buffered.is_empty() => if self.deliver(permit) {
                    return true;
                },
                () = until(deadline), if deadline.is_some() => self.expire(),
            }
        }
    }

    /// Returns false for a connection of unary calls only, on which nothing comes by itself.
    fn hears_heartbeats(&self) -> bool {
        !self.settings.send_only || self.settings.transport == Transport::Chat
    }

    fn takes_commands(&self) -> bool {
        !self.is_closing && self.queue.len() < MAX_PENDING
    }

    /// Passes the frames that may be sent to the connection.
    fn send_frames(&mut self, connection: &Connection) {
        let Some(frames) = &connection.frames else { return };
        while self.send_after.is_none()
            && let Ok(permit) = frames.try_reserve()
            && let Some(request) = self.queue.next_to_send()
        {
            permit.send(request);
        }
    }

    fn accept(&mut self, command: Option<Command>) {
        match command {
            Some(Command { frame, answer, deadline }) => self.queue.push(frame, answer, deadline),
            None => self.is_closing = true,
        }
    }

    /// Delivers one buffered update. Returns true when the application has dropped the session.
    fn deliver(&mut self, permit: Result<mpsc::Permit<'_, Update>, mpsc::error::SendError<()>>) -> bool {
        match permit {
            Ok(permit) => {
                if let Some(update) = self.buffered.pop_front() {
                    permit.send(update);
                }
                false
            }
            Err(_) if self.settings.send_only => {
                self.buffered.clear();
                false
            }
            Err(_) => true,
        }
    }

    fn expire(&mut self) {
        self.queue.take_expired(Instant::now()).into_iter().for_each(fail);
    }

    /// Handles one item. An error means that the connection cannot be trusted.
    fn handle(&mut self, item: Option<Item>) -> Result<(), Status> {
        match item {
            Some(Item::Event(event)) => self.handle_event(event)?,
            Some(Item::CaughtUp(mark)) => self.handle_caught_up(mark)?,
            Some(Item::Truncated(truncated)) => {
                let (conversation_id, oldest_sequence) = (truncated.conversation_id, truncated.oldest_sequence);
                self.positions.truncated(&conversation_id, oldest_sequence);
                self.buffer(Update::Truncated { conversation_id, oldest_sequence });
            }
            Some(Item::Closed(closed)) => {
                self.positions.closed(&closed.conversation_id);
                let (conversation_id, status) = (closed.conversation_id, status::from_proto(closed.status));
                self.buffer(Update::Closed { conversation_id, status });
            }
            Some(Item::Ack(ack)) => {
                if let Some(pending) = self.queue.complete(ack.frame_id) {
                    let _ = pending.answer.send(Ok(ack));
                }
            }
            Some(Item::Nack(nack)) => self.handle_nack(nack),
            Some(Item::Heartbeat(heartbeat)) => {
                if self.positions.enter(&heartbeat.epoch) {
                    self.buffer(Update::Epoch(heartbeat.epoch));
                }
            }
            // Or a kind that is newer than this client.
            Some(Item::Opened(_) | Item::Draining(_) | Item::TokenExpiring(_)) | None => {}
        }
        Ok(())
    }

    fn handle_event(&mut self, event: Event) -> Result<(), Status> {
        if event.sequence > 0 {
            match self.positions.advance(&event.conversation_id, event.sequence) {
                Verdict::New => {}
                Verdict::Duplicate => return Ok(()),
                Verdict::Gap => return Err(status::gap(&event.conversation_id, event.sequence)),
            }
        }
        self.buffer(Update::Event(event));
        Ok(())
    }

    fn handle_caught_up(&mut self, CaughtUp { conversation_id, sequence }: CaughtUp) -> Result<(), Status> {
        if conversation_id.is_empty() {
            self.was_caught_up = true;
            self.backoff.reset();
            self.buffer(Update::AllCaughtUp);
        } else if self.positions.caught_up(&conversation_id, sequence) {
            self.buffer(Update::CaughtUp { conversation_id, sequence });
        } else {
            return Err(status::gap(&conversation_id, sequence));
        }
        Ok(())
    }

    fn handle_nack(&mut self, nack: Nack) {
        let status = status::from_proto(nack.status);
        if status::is_retryable(&status) {
            let pause = status::retry_delay(&status).unwrap_or(RETRY_PAUSE);
            let pause = pause.clamp(RETRY_PAUSE / 4, Duration::from_secs(5));
            self.send_after = Some(Instant::now() + pause.mul_f64(1.0 + fastrand::f64() / 4.0));
            self.queue.requeue(nack.frame_id);
        } else if let Some(pending) = self.queue.complete(nack.frame_id) {
            let _ = pending.answer.send(Err(SendError::Refused(status)));
        }
    }

    fn buffer(&mut self, update: Update) {
        self.buffered.push_back(update);
    }
}

/// Answers a frame that has expired.
fn fail(pending: Pending<AnswerSender>) {
    let error = if pending.was_sent { SendError::OutcomeUnknown } else { SendError::Ended };
    let _ = pending.answer.send(Err(error));
}

fn delay_of(draining: Draining) -> Option<Duration> {
    draining.retry_delay.and_then(|delay| delay.try_into().ok())
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(TokioInstant::from_std(instant)).await,
        None => std::future::pending().await,
    }
}
