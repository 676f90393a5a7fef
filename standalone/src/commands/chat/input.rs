//! What the person does.

use std::io::{self, BufRead, Read};

use tokio::sync::mpsc;

/// The longest line that is read; nothing longer can be sent.
const LONGEST: u64 = 16 * 1_024;

/// The most that waits to be looked at.
pub(super) const MOST_WAITING: usize = 64;

/// One thing that the person does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Input {
    /// A line, without its end.
    Line(String),
    /// A line that cannot be sent, and why.
    Unusable(&'static str),
    /// Types, and is not done.
    Typing,
}

/// Reads lines until the end, or until nobody wants them. Blocks.
pub(super) fn read_lines(mut reader: impl BufRead, inputs: &mpsc::Sender<Input>) {
    while let Ok(Some(input)) = read_line(&mut reader) {
        if inputs.blocking_send(input).is_err() {
            return;
        }
    }
}

fn read_line(reader: &mut impl BufRead) -> io::Result<Option<Input>> {
    let mut line = Vec::new();
    // One byte more than a line and its end may have.
    let count = reader.by_ref().take(LONGEST + 3).read_until(b'\n', &mut line)?;
    if count == 0 {
        return Ok(None);
    }
    let is_whole = line.ends_with(b"\n");
    if is_whole {
        line.pop();
        if line.ends_with(b"\r") {
            line.pop();
        }
    } else if count as u64 > LONGEST {
        skip_line(reader)?;
    }
    if line.len() as u64 > LONGEST {
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
        let [fits, next] = ["x".repeat(LONGEST as usize), "next".to_owned()].map(Input::Line);
        let text = |length: u64, end: &str| format!("{}{end}next\n", "x".repeat(length as usize));
        let too_long = Input::Unusable("it is longer than 16,384 bytes");
        for end in ["\n", "\r\n"] {
            assert_eq!(read_all(text(LONGEST, end).as_bytes()), [fits.clone(), next.clone()]);
            for length in [LONGEST + 1, LONGEST + 2, LONGEST + 3, LONGEST + 4, 100_000] {
                assert_eq!(read_all(text(length, end).as_bytes()), [too_long.clone(), next.clone()], "{length}");
            }
        }
        assert_eq!(read_all(b"\xff\nnext\n"), [Input::Unusable("it is not UTF-8"), next]);
    }
}
