//! The conversation itself: what comes from the services and what comes from the person.

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
    enter::{Services, reason},
    input::Input,
    line::Line,
    screen::Screen,
    typed::{self, Typed},
    typists::Typists,
    wording::{self, Wording},
};
use crate::commands::signals::Signals;

/// The most messages that are sent and not answered. Beyond that nothing more is taken from the person.
const MOST_UNANSWERED: usize = 64;

/// For answers to come once the person is done.
const LEAVE_LIMIT: Duration = Duration::from_secs(10);

/// How much of a message is repeated when it was not sent.
const QUOTED: usize = 60;

type Sending = Pin<Box<dyn Future<Output = (String, Result<i64, SendError>)> + Send>>;
type Marking = Pin<Box<dyn Future<Output = Result<i64, SendError>> + Send>>;

/// One person in one conversation.
pub(super) struct Talk {
    user_id: String,
    conversation_id: String,
    services: Services,
    session: Session,
    wording: Wording,
    screen: Screen,
    typists: Typists,
    /// What is shown of them.
    typing: String,
    sending: FuturesUnordered<Sending>,
    marking: Option<Marking>,
    is_connected: bool,
    /// The last entry that was shown, that is known to be marked as read, and that is known to be one's own.
    shown: i64,
    marked: i64,
    own: i64,
    not_sent: usize,
}

impl Talk {
    pub(super) fn new(
        user_id: String,
        conversation_id: String,
        services: Services,
        session: Session,
        wording: Wording,
        screen: Screen,
        last_sequence: i64,
    ) -> Self {
        Self {
            user_id,
            conversation_id,
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
            own: 0,
            not_sent: 0,
        }
    }

    /// Until the person is done, and what was typed is stored and shown; or until the services end it, which is an error.
    pub(super) async fn go_on(
        &mut self,
        mut updates: Updates,
        mut inputs: mpsc::Receiver<Input>,
        signals: &mut Signals,
    ) -> anyhow::Result<()> {
        let mut leave_at = None;
        let mut tick = interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if leave_at.is_some() && self.sending.is_empty() && self.shown >= self.own {
                return Ok(());
            }
            let takes_inputs = leave_at.is_none() && self.sending.len() < MOST_UNANSWERED;
            tokio::select! {
                update = updates.next() => match update {
                    Some(update) => self.take(update).await?,
                    None => anyhow::bail!("the session has ended"),
                },
                Some((text, outcome)) = self.sending.next() => self.answered(&text, outcome).await,
                input = inputs.recv(), if takes_inputs => {
                    let goes_on = match input {
                        Some(input) => self.does(input).await,
                        None => false,
                    };
                    if !goes_on {
                        leave_at = Some(self.leave().await);
                    }
                }
                Some(marked) = OptionFuture::from(self.marking.as_mut()) => {
                    self.marking = None;
                    // Not worth a word: the next one makes up for it.
                    self.marked = marked.unwrap_or(self.marked);
                }
                _ = tick.tick() => {
                    self.show_typing().await;
                    self.mark_read();
                }
                _ = signals.next() => match leave_at {
                    None => leave_at = Some(self.leave().await),
                    // Impatient.
                    Some(_) => return Ok(()),
                },
                () = sleep_until(leave_at.unwrap_or_else(TokioInstant::now)), if leave_at.is_some() => return Ok(()),
            }
        }
    }

    /// Leaves the terminal as it was and says what there is to say.
    pub(super) async fn end(self, ended: anyhow::Result<()>) -> anyhow::Result<ExitCode> {
        let unanswered = self.sending.len();
        self.screen.end().await;
        ended?;
        if unanswered > 0 {
            crate::say::aside(format_args!("{unanswered} of your messages got no answer in time, and may be lost"));
        }
        Ok(if unanswered + self.not_sent == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// The person is done; gives until when answers are waited for.
    async fn leave(&self) -> TokioInstant {
        if !self.is_connected && !self.sending.is_empty() {
            let text = format!(
                "waiting up to {LEAVE_LIMIT:?} for a connection to send {} of your messages; Ctrl-C leaves now",
                self.sending.len()
            );
            self.screen.show(&Line::aside(text)).await;
        }
        TokioInstant::now() + LEAVE_LIMIT
    }

    /// Something that the person does; false when they are done.
    async fn does(&mut self, input: Input) -> bool {
        match input {
            Input::Line(line) => match typed::read(&line) {
                Typed::Text(text) => self.send(text),
                Typed::Help => self.screen.show(&Line::aside(typed::HELP)).await,
                Typed::Who => self.who().await,
                Typed::Quit => return false,
                Typed::Unknown(command) => {
                    let text = format!("there is no /{command}; /help says what there is, and // begins a text with /");
                    self.screen.show(&Line::aside(text)).await;
                }
                Typed::Nothing => {}
            },
            Input::Unusable(why) => {
                self.not_sent += 1;
                self.screen.show(&Line::aside(format!("a line was not sent: {why}"))).await;
            }
            // Asked for, and nobody waits for it. It is worth nothing when it comes late.
            Input::Typing if self.is_connected => drop(self.session.typing(&self.conversation_id).now_or_never()),
            Input::Typing => {}
        }
        true
    }

    fn send(&mut self, text: String) {
        let sent = self.session.send(Draft::text(&self.conversation_id, text.clone()));
        // What is typed first is asked for first: these are polled in the order in which they are pushed.
        self.sending.push(Box::pin(async move { (text, sent.await.map(|sent| sent.sequence)) }));
    }

    async fn answered(&mut self, text: &str, outcome: Result<i64, SendError>) {
        match outcome {
            Ok(sequence) => self.own = self.own.max(sequence),
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

    async fn who(&mut self) {
        let line = match self.services.members(&self.user_id, &self.conversation_id).await {
            Ok(page) => wording::members(&page.members, page.next_page_token.is_empty()),
            Err(status) => Line::aside(format!("cannot tell who is a member: {}", reason(&status))),
        };
        self.screen.show(&line).await;
    }

    async fn take(&mut self, update: Update) -> anyhow::Result<()> {
        match update {
            Update::Event(event) if event.conversation_id == self.conversation_id => self.event(&event).await,
            Update::Truncated { conversation_id, .. } if conversation_id == self.conversation_id => {
                self.screen.show(&Line::aside("what was said in between is no longer kept")).await;
            }
            Update::Closed { conversation_id, status } if conversation_id == self.conversation_id => {
                anyhow::bail!("you are out of {conversation_id}: {}", reason(&status));
            }
            Update::Disconnected { cause, .. } if self.is_connected => {
                self.is_connected = false;
                let text = format!("not connected: {}; what you type is sent when it is back", reason(&cause));
                self.screen.show(&Line::aside(text)).await;
            }
            Update::Connected if !self.is_connected => {
                self.is_connected = true;
                self.screen.show(&Line::aside("connected again")).await;
            }
            Update::Ended(status) => anyhow::bail!("the session has ended: {}", reason(&status)),
            // Of other conversations, or not worth a word.
            _ => {}
        }
        Ok(())
    }

    async fn event(&mut self, event: &Event) {
        if let Some(Kind::Typing(_)) = &event.kind {
            self.typists.told(&event.actor_id, Instant::now());
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
            self.marking = Some(Box::pin(self.session.mark_read(&self.conversation_id, self.shown)));
        }
    }
}
