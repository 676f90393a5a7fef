//! The main loop of a chat: handles the updates of the session and the input of the user.

use std::{
    pin::Pin,
    process::ExitCode,
    time::{Duration, Instant},
};

use futures_util::{FutureExt, StreamExt, future::OptionFuture, stream::FuturesUnordered};
use parlance::message::v1::{Event, event::Kind};
use parlance_client::{Draft, SendError, Session, Update, Updates};
use tokio::{
    sync::mpsc,
    time::{Instant as TokioInstant, MissedTickBehavior, interval, sleep_until},
};

use super::{
    command::{self, Command},
    enter::{Participant, Services, reason},
    input::Input,
    line::Line,
    screen::Screen,
    typists::Typists,
    wording::{self, Wording},
};
use crate::commands::signals::Signals;

/// The most unanswered messages; beyond that, input waits.
const MAX_UNANSWERED: usize = 64;

/// The time limit for answers after the user has quit.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(10);

/// The most characters of a message that are quoted when it was not sent.
const QUOTED: usize = 60;

type Sending = Pin<Box<dyn Future<Output = (String, Result<i64, SendError>)> + Send>>;
type Marking = Pin<Box<dyn Future<Output = Result<i64, SendError>> + Send>>;

/// A chat of one user in one conversation.
pub(super) struct ChatSession {
    participant: Participant,
    services: Services,
    session: Session,
    wording: Wording,
    screen: Screen,
    typists: Typists,
    /// The text shown of them.
    typing: String,
    sending: FuturesUnordered<Sending>,
    marking: Option<Marking>,
    is_connected: bool,
    /// The last entry that was shown, that is marked as read, and that is the user's own.
    shown: i64,
    marked: i64,
    last_own: i64,
    not_sent: usize,
}

impl ChatSession {
    pub(super) fn new(
        participant: Participant,
        services: Services,
        session: Session,
        wording: Wording,
        screen: Screen,
        last_sequence: i64,
    ) -> Self {
        Self {
            participant,
            services,
            session,
            wording,
            screen,
            typists: Typists::default(),
            typing: String::new(),
            sending: FuturesUnordered::new(),
            marking: None,
            is_connected: true,
            shown: last_sequence,
            marked: 0,
            last_own: 0,
            not_sent: 0,
        }
    }

    /// Runs until the user quits and all sent messages are stored and shown, or until the services end the session, which is
    /// an error.
    pub(super) async fn run(
        &mut self,
        mut updates: Updates,
        mut inputs: mpsc::Receiver<Input>,
        signals: &mut Signals,
    ) -> anyhow::Result<()> {
        let mut leave_deadline = None;
        let mut tick = interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if leave_deadline.is_some() && self.sending.is_empty() && self.shown >= self.last_own {
                return Ok(());
            }
            let takes_inputs = leave_deadline.is_none() && self.sending.len() < MAX_UNANSWERED;
            tokio::select! {
                update = updates.next() => match update {
                    Some(update) => self.handle_update(update).await?,
                    None => anyhow::bail!("the session has ended"),
                },
                Some((text, outcome)) = self.sending.next() => self.handle_outcome(&text, outcome).await,
                input = inputs.recv(), if takes_inputs => {
                    let continues = match input {
                        Some(input) => self.handle_input(input).await,
                        None => false,
                    };
                    if !continues {
                        leave_deadline = Some(self.leave().await);
                    }
                }
                Some(marked) = OptionFuture::from(self.marking.as_mut()) => {
                    self.marking = None;
                    // A failure is ignored: the next mark makes up for it.
                    self.marked = marked.unwrap_or(self.marked);
                }
                _ = tick.tick() => {
                    self.show_typing().await;
                    self.mark_read();
                }
                _ = signals.next() => match leave_deadline {
                    None => leave_deadline = Some(self.leave().await),
                    // A second signal.
                    Some(_) => return Ok(()),
                },
                () = sleep_until(leave_deadline.unwrap_or_else(TokioInstant::now)), if leave_deadline.is_some() => return Ok(()),
            }
        }
    }

    /// Restores the terminal and reports the result.
    pub(super) async fn end(self, ended: anyhow::Result<()>) -> anyhow::Result<ExitCode> {
        let unanswered = self.sending.len();
        self.screen.end().await;
        ended?;
        if unanswered > 0 {
            crate::say::aside(format_args!("{unanswered} of your messages got no answer in time, and may be lost"));
        }
        Ok(if unanswered + self.not_sent == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// Begins to quit, and returns the deadline for outstanding answers.
    async fn leave(&self) -> TokioInstant {
        if !self.is_connected && !self.sending.is_empty() {
            let text = format!(
                "waiting up to {LEAVE_TIMEOUT:?} for a connection to send {} of your messages; press Ctrl-C to quit now",
                self.sending.len()
            );
            self.screen.show(&Line::aside(text)).await;
        }
        TokioInstant::now() + LEAVE_TIMEOUT
    }

    /// Handles one input. Returns false if the user quits.
    async fn handle_input(&mut self, input: Input) -> bool {
        match input {
            Input::Line(line) => match command::parse(&line) {
                Command::Text(text) => self.send(text),
                Command::Help => self.screen.show(&Line::aside(command::HELP)).await,
                Command::Who => self.list_members().await,
                Command::Quit => return false,
                Command::Unknown(command) => {
                    let text =
                        format!("unknown command /{command}; /help lists the commands, and // begins a text with /");
                    self.screen.show(&Line::aside(text)).await;
                }
                Command::Nothing => {}
            },
            Input::Unusable(why) => {
                self.not_sent += 1;
                self.screen.show(&Line::aside(format!("a line was not sent: {why}"))).await;
            }
            // Submitted without waiting for the answer; a late notification would be useless.
            Input::Typing if self.is_connected => {
                drop(self.session.typing(&self.participant.conversation_id).now_or_never());
            }
            Input::Typing => {}
        }
        true
    }

    fn send(&mut self, text: String) {
        let sent = self.session.send(Draft::text(&self.participant.conversation_id, text.clone()));
        // Futures are polled in the order in which they are pushed, which keeps the order of the messages.
        self.sending.push(Box::pin(async move { (text, sent.await.map(|sent| sent.sequence)) }));
    }

    async fn handle_outcome(&mut self, text: &str, outcome: Result<i64, SendError>) {
        match outcome {
            Ok(sequence) => self.last_own = self.last_own.max(sequence),
            Err(error) => {
                self.not_sent += 1;
                let why = match &error {
                    SendError::Refused(status) => reason(status),
                    SendError::OutcomeUnknown | SendError::Ended => error.to_string(),
                };
                let quote: String = text.chars().take(QUOTED).collect();
                let more = if quote.len() < text.len() { "…" } else { "" };
                self.screen.show(&Line::aside(format!("not sent: {why}: {quote}{more}"))).await;
            }
        }
    }

    async fn list_members(&mut self) {
        let line = match self.services.members(&self.participant).await {
            Ok(page) => wording::members(&page.members, page.next_page_token.is_empty()),
            Err(status) => Line::aside(format!("cannot list the members: {}", reason(&status))),
        };
        self.screen.show(&line).await;
    }

    async fn handle_update(&mut self, update: Update) -> anyhow::Result<()> {
        match update {
            Update::Event(event) if event.conversation_id == self.participant.conversation_id => {
                self.handle_event(&event).await;
            }
            Update::Truncated { conversation_id, .. } if conversation_id == self.participant.conversation_id => {
                self.screen.show(&Line::aside("some messages in between are no longer kept")).await;
            }
            Update::Closed { conversation_id, status } if conversation_id == self.participant.conversation_id => {
                if status.code() == tonic::Code::FailedPrecondition {
                    anyhow::bail!(
                        "messages of {conversation_id} were lost in a restore or failover; start again to see it"
                    );
                }
                anyhow::bail!("you are no longer in {conversation_id}: {}", reason(&status));
            }
            Update::Disconnected { cause, .. } if self.is_connected => {
                self.is_connected = false;
                let text = format!("disconnected: {}; what you type will be sent after the reconnect", reason(&cause));
                self.screen.show(&Line::aside(text)).await;
            }
            Update::Connected if !self.is_connected => {
                self.is_connected = true;
                self.screen.show(&Line::aside("reconnected")).await;
            }
            Update::Ended(status) => anyhow::bail!("the session has ended: {}", reason(&status)),
            // An update of another conversation, or one that needs no line.
            _ => {}
        }
        Ok(())
    }

    async fn handle_event(&mut self, event: &Event) {
        if let Some(Kind::Typing(_)) = &event.kind {
            self.typists.typing(&event.actor_id, Instant::now());
            self.show_typing().await;
            return;
        }
        if let Some(Kind::MessageSent(_)) = &event.kind {
            self.typists.done(&event.actor_id);
            self.show_typing().await;
        }
        for line in self.wording.event(event) {
            self.screen.show(&line).await;
        }
        self.shown = self.shown.max(event.sequence);
    }

    async fn show_typing(&mut self) {
        let typing = self.typists.text(Instant::now());
        if typing != self.typing {
            self.screen.show_typing(&typing).await;
            self.typing = typing;
        }
    }

    fn mark_read(&mut self) {
        if self.shown > self.marked && self.marking.is_none() && self.is_connected {
            self.marking = Some(Box::pin(self.session.mark_read(&self.participant.conversation_id, self.shown)));
        }
    }
}
