//! Reads the user's input.

use std::io::{self, BufRead, Read};

use tokio::sync::mpsc;

/// The longest line in bytes, which is the size limit of a message.
const MAX_LINE_BYTES: u64 = 16 * 1_024;

/// The most inputs that wait to be handled.
pub(super) const MAX_INPUTS: usize = 64;

/// An input of the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Input {
    /// A line, without its line break.
    Line(String),
    /// A line that cannot be sent, and the reason.
    Unusable(&'static str),
    /// The user is typing.
    Typing,
}

/// Reads lines until the end of the input, or until the receiver is dropped. Blocks.
pub(super) fn read_lines(mut reader: impl BufRead, inputs: &mpsc::Sender<Input>) {
    while let Ok(Some(input)) = read_line(&mut reader) {
        if inputs.blocking_send(input).is_err() {
            return;
        }
    }
}

fn read_line(reader: &mut impl BufRead) -> io::Result<Option<Input>> {
    let mut line = Vec::new();
    // One byte more than the longest line with its line break.
    let count = reader.by_ref().take(MAX_LINE_BYTES + 3).read_until(b'\n', &mut line)?;
    if count == 0 {
        return Ok(None);
    }
    let is_whole = line.ends_with(b"\n");
    if is_whole {
        line.pop();
        if line.ends_with(b"\r") {
            line.pop();
        }
    } else if count as u64 > MAX_LINE_BYTES {
        skip_line(reader)?;
    }
    if line.len() as u64 > MAX_LINE_BYTES {
        return Ok(Some(Input::Unusable("it is longer than 16,384 bytes")));
    }
    Ok(Some(String::from_utf8(line).map_or(Input::Unusable("it is not UTF-8"), Input::Line)))
}

fn skip_line(reader: &mut impl BufRead) -> io::Result<()> {
    loop {
        let buffer = reader.fill_buf()?;
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let skipped = end.map_or(buffer.len(), |end| end + 1);
        reader.consume(skipped);
        if end.is_some() || skipped == 0 {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(text: &[u8]) -> Vec<Input> {
        let (inputs, mut read) = mpsc::channel(16);
        read_lines(text, &inputs);
        drop(inputs);
        std::iter::from_fn(|| read.try_recv().ok()).collect()
    }

    #[test]
    fn lines_end_with_either_break_or_with_the_input() {
        let line = |text: &str| Input::Line(text.to_owned());
        assert_eq!(read_all(b"a\r\n\nb\nc"), [line("a"), line(""), line("b"), line("c")]);
        assert_eq!(read_all(b""), []);
    }

    #[test]
    fn what_cannot_be_sent_costs_neither_memory_nor_the_next_line() {
        let [fits, next] = ["x".repeat(MAX_LINE_BYTES as usize), "next".to_owned()].map(Input::Line);
        let text = |length: u64, end: &str| format!("{}{end}next\n", "x".repeat(length as usize));
        let too_long = Input::Unusable("it is longer than 16,384 bytes");
        for end in ["\n", "\r\n"] {
            assert_eq!(read_all(text(MAX_LINE_BYTES, end).as_bytes()), [fits.clone(), next.clone()]);
            for length in [MAX_LINE_BYTES + 1, MAX_LINE_BYTES + 2, MAX_LINE_BYTES + 3, MAX_LINE_BYTES + 4, 100_000] {
                assert_eq!(read_all(text(length, end).as_bytes()), [too_long.clone(), next.clone()], "{length}");
            }
        }
        assert_eq!(read_all(b"\xff\nnext\n"), [Input::Unusable("it is not UTF-8"), next]);
    }
}
