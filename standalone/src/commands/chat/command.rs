//! Parses the lines that the user types.

/// A parsed line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    /// Send this text.
    Text(String),
    /// List the commands.
    Help,
    /// List the members.
    Who,
    /// Quit the chat.
    Quit,
    /// An unknown command.
    Unknown(String),
    /// A blank line.
    Nothing,
}

/// The output of `/help`.
pub(super) const HELP: &str = "\
Type a line and press Enter to send it. Commands:
/help   show this help
/who    list the members
/quit   quit (or Ctrl-D, or Ctrl-C)
//text  send a text that begins with /
Alt-Enter starts a new line in a message; the arrow keys recall sent messages.";

/// Parses a line without its line break.
pub(super) fn parse(line: &str) -> Command {
    match line.trim() {
        "" => Command::Nothing,
        "/help" => Command::Help,
        "/who" => Command::Who,
        "/quit" => Command::Quit,
        _ => match line.strip_prefix('/') {
            Some(text) if text.starts_with('/') => Command::Text(text.to_owned()),
            Some(text) => Command::Unknown(text.split_whitespace().next().unwrap_or_default().to_owned()),
            None => Command::Text(line.to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_text_unless_it_begins_with_a_slash() {
        let text = |text: &str| Command::Text(text.to_owned());
        for (line, command) in [
            ("hello", text("hello")),
            ("  indented", text("  indented")),
            ("and/or", text("and/or")),
            ("//quit", text("/quit")),
            ("", Command::Nothing),
            (" \t", Command::Nothing),
            ("/help", Command::Help),
            ("/who ", Command::Who),
            ("/quit", Command::Quit),
            ("/quit now", Command::Unknown("quit".to_owned())),
            ("/", Command::Unknown(String::new())),
        ] {
            assert_eq!(parse(line), command, "{line:?}");
        }
    }
}
