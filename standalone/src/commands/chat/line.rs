//! A line of output, and its rendering.

use super::sanitize::{sanitize, sanitize_line};

/// The indentation of further lines of a message, so that no message can imitate another user's line.
const INDENT: &str = "        ";

/// The style of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// A message.
    Message,
    /// Another event of the conversation, or the output of a command.
    Notice,
    /// A note about the client itself, such as its connection.
    Aside,
}

/// A line of output. It may contain any text: [`render`](Line::render) sanitizes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) style: Style,
    /// The text in front: the time, and the sender.
    pub(super) head: String,
    pub(super) text: String,
}

impl Line {
    pub(super) fn notice(text: impl Into<String>) -> Self {
        Self { style: Style::Notice, head: String::new(), text: text.into() }
    }

    pub(super) fn aside(text: impl Into<String>) -> Self {
        Self { style: Style::Aside, ..Self::notice(text) }
    }

    /// Renders the line without a line break at the end. With `has_styles`, the head of a message is bold and other lines
    /// are dim.
    pub(super) fn render(&self, has_styles: bool) -> String {
        let indent = if self.style == Style::Message { INDENT } else { "" };
        let head = sanitize_line(&self.head);
        let text = sanitize(self.text.trim_end()).replace('\n', &format!("\n{indent}"));
        let gap = if head.is_empty() { "" } else { " " };
        match (has_styles, self.style) {
            (false, _) => format!("{head}{gap}{text}"),
            (true, Style::Message) => format!("\x1b[1m{head}\x1b[0m{gap}{text}"),
            (true, Style::Notice | Style::Aside) => format!("\x1b[2m{head}{gap}{text}\x1b[0m"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(head: &str, text: &str) -> Line {
        Line { style: Style::Message, head: head.to_owned(), text: text.to_owned() }
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
