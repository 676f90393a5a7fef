//! What a typed line means.

/// What the person wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Typed {
    /// Send this text.
    Text(String),
    /// Say what can be typed.
    Help,
    /// Say who is a member.
    Who,
    /// End.
    Quit,
    /// Something that begins with a slash and is none of these.
    Unknown(String),
    /// Nothing: the line is blank.
    Nothing,
}

/// What `/help` says.
pub(super) const HELP: &str = "\
Type a line and press Enter to send it. Besides:
/help   this
/who    who is a member
/quit   end (or Ctrl-D, or Ctrl-C)
//text  send a text that begins with /
Alt-Enter begins another line of a message; the arrow keys bring back old ones.";

/// Reads a line, without the line break that ended it.
pub(super) fn read(line: &str) -> Typed {
    match line.trim() {
        "" => Typed::Nothing,
        "/help" => Typed::Help,
        "/who" => Typed::Who,
        "/quit" => Typed::Quit,
        _ => match line.strip_prefix('/') {
            Some(text) if text.starts_with('/') => Typed::Text(text.to_owned()),
            Some(text) => Typed::Unknown(text.split_whitespace().next().unwrap_or_default().to_owned()),
            None => Typed::Text(line.to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_text_unless_it_begins_with_a_slash() {
        let text = |text: &str| Typed::Text(text.to_owned());
        for (line, typed) in [
            ("hello", text("hello")),
            ("  indented", text("  indented")),
            ("and/or", text("and/or")),
            ("//quit", text("/quit")),
            ("", Typed::Nothing),
            (" \t", Typed::Nothing),
            ("/help", Typed::Help),
            ("/who ", Typed::Who),
            ("/quit", Typed::Quit),
            ("/quit now", Typed::Unknown("quit".to_owned())),
            ("/", Typed::Unknown(String::new())),
        ] {
            assert_eq!(read(line), typed, "{line:?}");
        }
    }
}
