//! One thing that is shown, and how it looks.

use super::clean::{clean, clean_line};

/// What the second and further lines of a text begin with, so that nobody can write a line that looks like another's.
const INDENT: &str = "        ";

/// What kind of thing it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    /// A message.
    Message,
    /// What else happened in the conversation, and answers to commands.
    Notice,
    /// What goes on between us and the services.
    Aside,
}

/// Something to be shown. It may hold anything: [`render`](Line::render) makes it harmless.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) tone: Tone,
    /// Before the text: the time, and the sender.
    pub(super) head: String,
    pub(super) text: String,
}

impl Line {
    pub(super) fn notice(text: impl Into<String>) -> Self {
        Self { tone: Tone::Notice, head: String::new(), text: text.into() }
    }

    pub(super) fn aside(text: impl Into<String>) -> Self {
        Self { tone: Tone::Aside, ..Self::notice(text) }
    }

    /// As it is written, without a line break at the end. With `is_styled` the head of a message stands out and what is no
    /// message steps back.
    pub(super) fn render(&self, is_styled: bool) -> String {
        let indent = if self.tone == Tone::Message { INDENT } else { "" };
        let head = clean_line(&self.head);
        let text = clean(self.text.trim_end()).replace('\n', &format!("\n{indent}"));
        let gap = if head.is_empty() { "" } else { " " };
        match (is_styled, self.tone) {
            (false, _) => format!("{head}{gap}{text}"),
            (true, Tone::Message) => format!("\x1b[1m{head}\x1b[0m{gap}{text}"),
            (true, Tone::Notice | Tone::Aside) => format!("\x1b[2m{head}{gap}{text}\x1b[0m"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(head: &str, text: &str) -> Line {
        Line { tone: Tone::Message, head: head.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn a_message_of_several_lines_is_one_block() {
        let forged = message("21:52 eve:", "hello\n21:53 bob: I agree\n\n");
        assert_eq!(forged.render(false), "21:52 eve: hello\n        21:53 bob: I agree");
    }

    #[test]
    fn a_terminal_gets_styles_and_they_end() {
        assert_eq!(message("21:52 bob:", "hi").render(true), "\x1b[1m21:52 bob:\x1b[0m hi");
        assert_eq!(Line::notice("bob joined").render(true), "\x1b[2mbob joined\x1b[0m");
    }

    proptest! {
        #[test]
        fn no_text_reaches_the_terminal_as_a_command(head in any::<String>(), text in any::<String>()) {
            let plain = message(&head, &text).render(false);
            prop_assert!(!plain.chars().any(|c| c.is_control() && c != '\n'));
            prop_assert!(plain.split('\n').skip(1).all(|line| line.starts_with(INDENT)));
            let styled = message(&head, &text).render(true);
            prop_assert_eq!(styled.matches('\x1b').count(), 2);
        }
    }
}
