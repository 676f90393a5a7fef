//! What a session does: connects, tells, sends, and does it all again when the connection is gone.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use parlance::message::v1::{CaughtUp, ChatOpen, ChatResponse, SubscribeStart, chat_response::Item};
use tokio::{
    sync::mpsc,
    time::{Instant as TokioInstant, sleep_until, timeout},
};
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt;

use crate::{
    backoff::Backoff,
    ledger::{Ledger, Verdict},
    link::{self, Link, to_status},
    outbox::Outbox,
    session::{Command, SendError, SessionBuilder, Start, Update, Waiter},
};

/// The most frames that are not answered; the service allows 256.
const WINDOW: usize = 128;

/// The most that waits to be sent; who asks for more waits.
const MAX_PENDING: usize = 1_024;

/// The most updates kept back for an application that does not take them.
const MAX_KEPT_BACK: usize = 4_096;

/// The service is never silent for so long.
const SILENCE: Duration = Duration::from_secs(45);

/// Until it is open.
const OPEN_LIMIT: Duration = Duration::from_secs(15);

/// A frame that may be sent again is, after this or what the service asks for.
const AGAIN: Duration = Duration::from_millis(200);

#[expect(clippy::disallowed_methods, reason = "a client has no life cycle but that of its handles, which end the task")]
pub(crate) fn start(
    settings: SessionBuilder,
    commands: mpsc::Receiver<Command>,
    updates: mpsc::Sender<Update>,
    ledger: Ledger,
) {
    let session = Run {
        settings,
        commands,
        updates,
        ledger,
        outbox: Outbox::new(WINDOW),
        kept_back: VecDeque::new(),
        backoff: Backoff::default(),
        was_caught_up: false,
        is_closing: false,
        again_at: None,
    };
    tokio::spawn(session.run());
}

struct Run {
    settings: SessionBuilder,
    commands: mpsc::Receiver<Command>,
    updates: mpsc::Sender<Update>,
    ledger: Ledger,
    outbox: Outbox<Waiter>,
    kept_back: VecDeque<Update>,
    backoff: Backoff,
    /// It was told everything once: what is unknown from then on was joined since.
    was_caught_up: bool,
    /// Nobody asks for anything any more.
    is_closing: bool,
    /// Nothing is sent before this.
    again_at: Option<Instant>,
}

/// How a connection ended.
enum End {
    /// The application is done with the session.
    Done,
    /// The session may go on, after this long at least.
    Broken(Status, Option<Duration>),
}

impl Run {
    async fn run(mut self) {
        let last = loop {
            let (index, channel) = self.settings.client.current();
            let opened = timeout(OPEN_LIMIT, self.open(channel)).await;
            let end =
                match opened.unwrap_or_else(|_| Err(Status::deadline_exceeded("the session did not open in time"))) {
                    Ok(link) => {
                        self.backoff.reset();
                        self.keep_back(Update::Connected);
                        self.hold(link).await
                    }
                    Err(status) => End::Broken(status, None),
                };
            self.outbox.disconnected();
            match end {
                End::Done => break None,
                End::Broken(cause, _) if is_fatal(&cause) => break Some(cause),
                End::Broken(cause, asked_for) => {
                    self.settings.client.failed(index);
                    let retry_in = self.backoff.next(asked_for.or_else(|| retry_delay(&cause)), fastrand::f64());
                    self.keep_back(Update::Disconnected { cause, retry_in });
                    if self.wait(retry_in).await {
                        break None;
                    }
                }
            }
        };
        for pending in self.outbox.take() {
            let why = if pending.was_sent { SendError::OutcomeUnknown } else { SendError::Ended };
            let _ = pending.waiter.send(Err(why));
        }
        if let Some(status) = last {
            self.keep_back(Update::Ended(status));
        }
        while let Some(update) = self.kept_back.pop_front() {
            if self.updates.send(update).await.is_err() {
                return;
            }
        }
    }

    async fn open(&mut self, channel: Channel) -> Result<Link, Status> {
        let start = match (self.settings.start, self.was_caught_up) {
            (Start::ReadMark, _) | (_, true) => SubscribeStart::ReadMark,
            (Start::Now, false) => SubscribeStart::Now,
            (Start::Beginning, false) => SubscribeStart::Beginning,
        };
        let send_only = self.settings.send_only;
        let cursors = if send_only { Vec::new() } else { self.ledger.cursors() };
        let open = ChatOpen { actor_id: self.settings.actor_id.clone(), cursors, start: start.into(), send_only };
        let frame_id = self.outbox.frame_id();
        let mut link = link::open(channel, self.settings.transport, frame_id, open).await?;
        match link.items.next().await {
            Some(Ok(ChatResponse { item: Some(Item::Opened(_)) })) => Ok(link),
            Some(Ok(ChatResponse { item: Some(Item::Nack(nack)) })) => Err(to_status(nack.status)),
            Some(Ok(ChatResponse { item: Some(Item::Draining(_)) })) | None => Err(ended()),
            Some(Ok(other)) => Err(Status::internal(format!("{other:?} in place of opened"))),
            Some(Err(status)) => Err(status),
        }
    }

    /// Keeps to one connection until it ends.
    async fn hold(&mut self, mut link: Link) -> End {
        let mut heard_at = Instant::now();
        let mut come_back: Option<Duration> = None;
        let updates = self.updates.clone();
        loop {
            if self.updates.is_closed() && !self.settings.send_only {
                return End::Done;
            }
            self.send(&mut link);
            if self.is_closing && self.outbox.is_empty() {
                // The half-close. What is still told belongs to the application.
                link.frames = None;
            }
            let (deadline, again_at) = (self.outbox.next_deadline(), self.again_at);
            let takes_items = self.kept_back.len() < MAX_KEPT_BACK;
            let takes_commands = !self.is_closing && self.outbox.len() < MAX_PENDING;
            tokio::select! {
                item = link.items.next(), if takes_items => {
                    heard_at = Instant::now();
                    match item {
                        Some(Ok(ChatResponse { item: Some(Item::Draining(draining)) })) => {
                            come_back = draining.retry_delay.and_then(|delay| delay.try_into().ok());
                        }
                        Some(Ok(ChatResponse { item })) => {
                            if let Err(cause) = self.take(item) {
                                return End::Broken(cause, None);
                            }
                        }
                        None if self.is_closing && self.outbox.is_empty() => return End::Done,
                        None => return End::Broken(ended(), come_back),
                        Some(Err(status)) => return End::Broken(status, come_back),
                    }
                }
                command = self.commands.recv(), if takes_commands => self.asked(command),
                permit = updates.reserve(), if !self.kept_back.is_empty() => match permit {
                    Ok(permit) => if let Some(update) = self.kept_back.pop_front() {
                        permit.send(update);
                    },
                    Err(_) if self.settings.send_only => self.kept_back.clear(),
                    Err(_) => return End::Done,
                },
                () = sleep_until(TokioInstant::from_std(deadline.unwrap_or(heard_at))), if deadline.is_some() => self.expire(),
                () = sleep_until(TokioInstant::from_std(again_at.unwrap_or(heard_at))), if again_at.is_some() => self.again_at = None,
                () = sleep_until(TokioInstant::from_std(heard_at + SILENCE)), if takes_items => {
                    return End::Broken(Status::unavailable("nothing was heard for too long"), None);
                }
            }
        }
    }

    /// Hands over what may go.
    fn send(&mut self, link: &mut Link) {
        let Some(frames) = &link.frames else { return };
        while self.again_at.is_none()
            && let Ok(permit) = frames.try_reserve()
            && let Some(request) = self.outbox.next()
        {
            permit.send(request);
        }
    }

    fn asked(&mut self, command: Option<Command>) {
        match command {
            Some(Command { frame, waiter, deadline }) => self.outbox.push(frame, waiter, deadline),
            None => self.is_closing = true,
        }
    }

    fn expire(&mut self) {
        for pending in self.outbox.expired(Instant::now()) {
            let why = if pending.was_sent { SendError::OutcomeUnknown } else { SendError::Ended };
            let _ = pending.waiter.send(Err(why));
        }
    }

    /// Takes one item; an error is a connection that cannot be trusted.
    fn take(&mut self, item: Option<Item>) -> Result<(), Status> {
        match item {
            Some(Item::Event(event)) if event.sequence == 0 => self.keep_back(Update::Event(event)),
            Some(Item::Event(event)) => {
                let verdict = self.ledger.entry(&event.conversation_id, event.sequence);
                match verdict {
                    Verdict::New => self.keep_back(Update::Event(event)),
                    Verdict::Repeat => {}
                    Verdict::Gap => return Err(gap(&event.conversation_id, event.sequence)),
                }
            }
            Some(Item::CaughtUp(CaughtUp { conversation_id, .. })) if conversation_id.is_empty() => {
                self.was_caught_up = true;
                self.keep_back(Update::AllCaughtUp);
            }
            Some(Item::CaughtUp(CaughtUp { conversation_id, sequence })) => {
                if !self.ledger.caught_up(&conversation_id, sequence) {
                    return Err(gap(&conversation_id, sequence));
                }
                self.keep_back(Update::CaughtUp { conversation_id, sequence });
            }
            Some(Item::Truncated(truncated)) => {
                let (conversation_id, oldest_sequence) = (truncated.conversation_id, truncated.oldest_sequence);
                self.ledger.truncated(&conversation_id, oldest_sequence);
                self.keep_back(Update::Truncated { conversation_id, oldest_sequence });
            }
            Some(Item::Closed(closed)) => {
                self.ledger.closed(&closed.conversation_id);
                let (conversation_id, status) = (closed.conversation_id, to_status(closed.status));
                self.keep_back(Update::Closed { conversation_id, status });
            }
            Some(Item::Ack(ack)) => {
                if let Some(pending) = self.outbox.answered(ack.frame_id) {
                    let _ = pending.waiter.send(Ok(ack));
                }
            }
            Some(Item::Nack(nack)) => {
                let status = to_status(nack.status);
                if may_be_sent_again(&status) {
                    let pause = retry_delay(&status).unwrap_or(AGAIN).clamp(AGAIN / 4, Duration::from_secs(5));
                    self.again_at = Some(Instant::now() + pause.mul_f64(1.0 + fastrand::f64() / 4.0));
                    self.outbox.again(nack.frame_id);
                } else if let Some(pending) = self.outbox.answered(nack.frame_id) {
                    let _ = pending.waiter.send(Err(SendError::Refused(status)));
                }
            }
            // A sign of life, or a kind that was made after this client.
            Some(Item::Heartbeat(_) | Item::Opened(_) | Item::Draining(_)) | None => {}
        }
        Ok(())
    }

    /// Waits for the next try; true when the application is done with the session.
    async fn wait(&mut self, pause: Duration) -> bool {
        let end = TokioInstant::now() + pause;
        let updates = self.updates.clone();
        loop {
            if self.is_closing && self.outbox.is_empty() {
                return true;
            }
            let deadline = self.outbox.next_deadline();
            let takes_commands = !self.is_closing && self.outbox.len() < MAX_PENDING;
            tokio::select! {
                () = sleep_until(end) => return false,
                command = self.commands.recv(), if takes_commands => self.asked(command),
                permit = updates.reserve(), if !self.kept_back.is_empty() => match permit {
                    Ok(permit) => if let Some(update) = self.kept_back.pop_front() {
                        permit.send(update);
                    },
                    Err(_) if self.settings.send_only => self.kept_back.clear(),
                    Err(_) => return true,
                },
                () = sleep_until(TokioInstant::from_std(deadline.unwrap_or_else(Instant::now))), if deadline.is_some() => {
                    self.expire();
                }
            }
        }
    }

    fn keep_back(&mut self, update: Update) {
        self.kept_back.push_back(update);
    }
}

fn gap(conversation_id: &str, sequence: i64) -> Status {
    Status::data_loss(format!("something before entry {sequence} of {conversation_id} is missing"))
}

fn ended() -> Status {
    Status::unavailable("the stream has ended")
}

fn reason(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

fn retry_delay(status: &Status) -> Option<Duration> {
    status.get_details_retry_info().and_then(|info| info.retry_delay)
}

/// Another try would come to the same.
fn is_fatal(status: &Status) -> bool {
    match status.code() {
        Code::InvalidArgument | Code::Unauthenticated | Code::PermissionDenied | Code::Unimplemented => true,
        Code::FailedPrecondition => matches!(&*reason(status), "USER_DEACTIVATED" | "USER_DELETED"),
        Code::NotFound => reason(status) == "USER_NOT_FOUND",
        _ => false,
    }
}

/// A frame that was not done, or perhaps was: with the same `request_id` it can go again.
fn may_be_sent_again(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable | Code::Aborted | Code::DeadlineExceeded | Code::Cancelled => true,
        Code::ResourceExhausted => reason(status) == "OVERLOADED",
        // Made by a connection that broke.
        Code::Unknown | Code::Internal => reason(status).is_empty(),
        _ => false,
    }
}
