//! The output of lines: to a terminal with a prompt, or plain.

use std::io::{IsTerminal, stdin, stdout};
use std::thread;

use tokio::sync::mpsc;

use super::{
    input::{self, Input, MAX_INPUTS},
    line::{Line, Style},
    prompt::Prompt,
};
use crate::say;

/// The destination of the output.
pub(super) enum Screen {
    /// A terminal with a prompt below the output.
    Prompt(Prompt),
    /// Plain lines, when input or output is not a terminal; notes about the client go to standard error.
    Plain,
}

impl Screen {
    /// Starts reading the user's input. The channel closes at the end of the input.
    pub(super) fn begin() -> anyhow::Result<(Self, mpsc::Receiver<Input>)> {
        let (inputs, receiver) = mpsc::channel(MAX_INPUTS);
        let is_dumb = std::env::var("TERM").is_ok_and(|term| term == "dumb");
        if stdin().is_terminal() && stdout().is_terminal() && !is_dumb {
            return Ok((Self::Prompt(Prompt::begin(inputs)?), receiver));
        }
        // A thread instead of a task: a read cannot be cancelled, and nothing waits for a thread at the end.
        thread::Builder::new().name("input".to_owned()).spawn(move || input::read_lines(stdin().lock(), &inputs))?;
        Ok((Self::Plain, receiver))
    }

    /// Shows a line.
    pub(super) async fn show(&self, line: &Line) {
        match self {
            Self::Prompt(prompt) => prompt.show(line.render(true)).await,
            Self::Plain if line.style == Style::Aside => say::aside(line.render(false)),
            Self::Plain => say::out(line.render(false)),
        }
    }

    /// Shows the users who are typing; clears the note if `text` is empty.
    pub(super) async fn show_typing(&self, text: &str) {
        match self {
            Self::Prompt(prompt) => prompt.show_typing(text).await,
            Self::Plain if text.is_empty() => {}
            Self::Plain => say::aside(text),
        }
    }

    /// Restores the terminal.
    pub(super) async fn end(self) {
        if let Self::Prompt(prompt) = self {
            prompt.end().await;
        }
    }
}
