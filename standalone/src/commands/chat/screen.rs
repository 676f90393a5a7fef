//! Where lines are shown: a terminal that is typed in, or whatever the output is.

use std::io::{IsTerminal, stdin, stdout};
use std::thread;

use tokio::sync::mpsc;

use super::{
    input::{self, Input, MOST_WAITING},
    line::{Line, Tone},
    prompt::Prompt,
};
use crate::say;

/// What the person sees.
pub(super) enum Screen {
    /// Lines are typed below what is shown.
    Prompt(Prompt),
    /// Input or output is no terminal: plain lines, with what is not said in the conversation on standard error.
    Plain,
}

impl Screen {
    /// Begins to read what the person does. The inputs end when there will be no more.
    pub(super) fn begin() -> anyhow::Result<(Self, mpsc::Receiver<Input>)> {
        let (inputs, done) = mpsc::channel(MOST_WAITING);
        let is_dumb = std::env::var("TERM").is_ok_and(|term| term == "dumb");
        if stdin().is_terminal() && stdout().is_terminal() && !is_dumb {
            return Ok((Self::Prompt(Prompt::begin(inputs)?), done));
        }
        // A thread and no task: nothing can end a read, and nothing waits for this one at the end.
        thread::Builder::new().name("input".to_owned()).spawn(move || input::read_lines(stdin().lock(), &inputs))?;
        Ok((Self::Plain, done))
    }

    /// Shows one thing.
    pub(super) async fn show(&self, line: &Line) {
        match self {
            Self::Prompt(prompt) => prompt.show(line.render(true)).await,
            Self::Plain if line.tone == Tone::Aside => say::aside(line.render(false)),
            Self::Plain => say::out(line.render(false)),
        }
    }

    /// Shows who is typing; nobody is when it is empty.
    pub(super) async fn show_typing(&self, text: &str) {
        match self {
            Self::Prompt(prompt) => prompt.show_typing(text).await,
            Self::Plain if text.is_empty() => {}
            Self::Plain => say::aside(text),
        }
    }

    /// Leaves a terminal as it was.
    pub(super) async fn end(self) {
        if let Self::Prompt(prompt) = self {
            prompt.end().await;
        }
    }
}
