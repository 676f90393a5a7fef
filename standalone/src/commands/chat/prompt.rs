//! The terminal's prompt, with the output above it.

use std::{
    borrow::Cow,
    cell::Cell,
    collections::VecDeque,
    io::{self, Write, stdin, stdout},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use nix::sys::termios::{SetArg, Termios, tcgetattr, tcsetattr};
use rustyline::{
    Behavior, Cmd, ConditionalEventHandler, Config, Context, Editor, Event, EventContext, EventHandler,
    ExternalPrinter, Helper, KeyCode, KeyEvent, Modifiers, Movement, RepeatCount,
    completion::Completer,
    highlight::Highlighter,
    hint::{Hint, Hinter},
    history::MemHistory,
    validate::Validator,
};
use tokio::sync::{mpsc, oneshot};
use unicode_width::UnicodeWidthStr;

use super::input::Input;

const PROMPT: &str = "> ";

/// The most lines that wait to be shown; beyond that, the session waits for the terminal.
const MAX_LINES: usize = 64;

/// The most sent lines that the arrow keys recall.
const MAX_RECALLED: usize = 50;

/// The interval at which typing is reported.
const TYPING_INTERVAL: Duration = Duration::from_secs(2);

/// The time limit for showing the last lines.
const END_TIMEOUT: Duration = Duration::from_millis(500);

/// Repaints the row of the prompt in place: one row up and down again.
const NUDGE: &str = "\x1b[A\n";

/// A terminal in the prompt's mode. [`Prompt::end`] restores its former state.
pub(super) struct Prompt {
    lines: mpsc::Sender<String>,
    is_done: oneshot::Receiver<()>,
    typing: Arc<Mutex<String>>,
    before: Termios,
}

impl Prompt {
    /// Starts the prompt, which sends the user's input to `inputs` until Ctrl-C or Ctrl-D.
    pub(super) fn begin(inputs: mpsc::Sender<Input>) -> anyhow::Result<Self> {
        let before = tcgetattr(stdin())?;
        let typing = Arc::<Mutex<String>>::default();
        let config = Config::builder().behavior(Behavior::Stdio).build();
        let mut editor = Editor::<TypingHint, _>::with_history(config, MemHistory::new())?;
        let columns = editor.dimensions().map_or(80, |(columns, _)| usize::from(columns));
        let last_reported = Cell::new(None);
        editor.set_helper(Some(TypingHint { inputs: inputs.clone(), last_reported, typing: typing.clone(), columns }));
        let sent = Arc::<Mutex<Recall>>::default();
        let plain = |code| KeyEvent(code, Modifiers::NONE);
        let recall = |step| EventHandler::Conditional(Box::new(RecallKey { step, sent: sent.clone() }));
        editor.bind_sequence(plain(KeyCode::Up), recall(Step::Back));
        editor.bind_sequence(plain(KeyCode::Down), recall(Step::Forward));
        editor.bind_sequence(KeyEvent(KeyCode::Enter, Modifiers::ALT), Cmd::Newline);
        let take = Submit { inputs, sent: sent.clone() };
        editor.bind_sequence(plain(KeyCode::Enter), EventHandler::Conditional(Box::new(take)));
        let mut printer = editor.create_external_printer()?;
        let (lines, mut shown) = mpsc::channel::<String>(MAX_LINES);
        let (done, is_done) = oneshot::channel();
        // Threads instead of tasks: a read of the next key cannot be cancelled, and nothing waits for a thread at the end.
        thread::Builder::new().name("prompt".to_owned()).spawn(move || {
            // Enter does not end it (see `Submit`), so that a message is shown once: when it is delivered.
            let _ = editor.readline(PROMPT);
        })?;
        thread::Builder::new().name("lines".to_owned()).spawn(move || {
            while let Some(line) = shown.blocking_recv() {
                let _ = printer.print(line);
            }
            let _ = done.send(());
        })?;
        Ok(Self { lines, is_done, typing, before })
    }

    /// Shows lines above the prompt.
    pub(super) async fn show(&self, text: String) {
        let _ = self.lines.send(text + "\n").await;
    }

    /// Shows the users who are typing beside the prompt, if there is room.
    pub(super) async fn show_typing(&self, text: &str) {
        text.clone_into(&mut self.typing.lock().unwrap_or_else(PoisonError::into_inner));
        let _ = self.lines.send(NUDGE.to_owned()).await;
    }

    /// Ends the prompt and restores the terminal.
    pub(super) async fn end(self) {
        let Self { lines, is_done, before, .. } = self;
        drop(lines);
        let _ = tokio::time::timeout(END_TIMEOUT, is_done).await;
        let _ = tcsetattr(stdin(), SetArg::TCSADRAIN, &before);
        // Clear the prompt and leave bracketed paste mode.
        let mut stdout = stdout();
        let _ = write!(stdout, "\r\x1b[J\x1b[?2004l").and_then(|()| io::Write::flush(&mut stdout));
    }
}

/// Submits the line when Enter is pressed, unless the queue is full.
struct Submit {
    inputs: mpsc::Sender<Input>,
    sent: Arc<Mutex<Recall>>,
}

impl ConditionalEventHandler for Submit {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, context: &EventContext<'_>) -> Option<Cmd> {
        let line = context.line().to_owned();
        if self.inputs.try_send(Input::Line(line.clone())).is_err() {
            return Some(Cmd::Noop);
        }
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).keep(line);
        Some(Cmd::Kill(Movement::WholeBuffer))
    }
}

#[derive(Clone, Copy)]
enum Step {
    Back,
    Forward,
}

/// Recalls sent lines.
struct RecallKey {
    step: Step,
    sent: Arc<Mutex<Recall>>,
}

impl ConditionalEventHandler for RecallKey {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, context: &EventContext<'_>) -> Option<Cmd> {
        // In a message of several lines the keys move the cursor.
        if context.line().contains('\n') {
            return None;
        }
        let line = self.sent.lock().unwrap_or_else(PoisonError::into_inner).step(self.step);
        Some(line.map_or(Cmd::Noop, |line| Cmd::Replace(Movement::WholeBuffer, Some(line))))
    }
}

/// The sent lines, newest first, and the index of the one shown.
#[derive(Default)]
struct Recall {
    lines: VecDeque<String>,
    shown: Option<usize>,
}

impl Recall {
    fn keep(&mut self, line: String) {
        self.shown = None;
        if !line.trim().is_empty() && self.lines.front() != Some(&line) {
            self.lines.truncate(MAX_RECALLED - 1);
            self.lines.push_front(line);
        }
    }

    fn step(&mut self, step: Step) -> Option<String> {
        let index = match (step, self.shown) {
            (Step::Back, None) => Some(0),
            (Step::Back, Some(index)) => Some(index + 1),
            (Step::Forward, Some(index)) if index > 0 => Some(index - 1),
            (Step::Forward, Some(_)) => {
                self.shown = None;
                return Some(String::new());
            }
            (Step::Forward, None) => None,
        };
        let line = self.lines.get(index?)?;
        self.shown = index;
        Some(line.clone())
    }
}

/// Reports that the user is typing, and shows who else is.
struct TypingHint {
    inputs: mpsc::Sender<Input>,
    last_reported: Cell<Option<Instant>>,
    typing: Arc<Mutex<String>>,
    columns: usize,
}

/// A placeholder of the hint. The highlighter paints the text over it, since the text may change while the line does not.
struct Placeholder;

impl Hint for Placeholder {
    fn display(&self) -> &'static str {
        " "
    }

    fn completion(&self) -> Option<&str> {
        None
    }
}

/// The most columns of [`Typists::text`](super::typists::Typists::text).
const WIDEST_HINT: usize = 60;

impl Hinter for TypingHint {
    type Hint = Placeholder;

    fn hint(&self, line: &str, position: usize, _: &Context<'_>) -> Option<Placeholder> {
        let now = Instant::now();
        let is_due = self.last_reported.get().is_none_or(|at| now.duration_since(at) >= TYPING_INTERVAL);
        if is_due && !line.trim().is_empty() && !line.starts_with('/') && self.inputs.try_send(Input::Typing).is_ok() {
            self.last_reported.set(Some(now));
        }
        let has_room = PROMPT.len() + line.width() + WIDEST_HINT < self.columns;
        (position == line.len() && has_room && !line.contains('\n')).then_some(Placeholder)
    }
}

impl Highlighter for TypingHint {
    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        match &**self.typing.lock().unwrap_or_else(PoisonError::into_inner) {
            "" => Cow::Borrowed(hint),
            typing => Cow::Owned(format!(" \x1b[2m{typing}\x1b[0m")),
        }
    }
}

impl Completer for TypingHint {
    type Candidate = String;
}

impl Validator for TypingHint {}

impl Helper for TypingHint {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sent_lines_are_recalled_step_by_step() {
        let mut recall = Recall::default();
        assert_eq!(recall.step(Step::Back), None);
        for line in ["a", "b", "b", " "] {
            recall.keep(line.to_owned());
        }
        let steps = [Step::Forward, Step::Back, Step::Back, Step::Back, Step::Forward, Step::Forward, Step::Forward];
        let lines = steps.map(|step| recall.step(step));
        let [a, b, nothing] = ["a", "b", ""].map(|line| Some(line.to_owned()));
        assert_eq!(lines, [None, b.clone(), a, None, b, nothing, None]);
        (0..1_000).for_each(|n| recall.keep(n.to_string()));
        assert_eq!(recall.lines.len(), MAX_RECALLED);
    }
}
