//! Positions of readers.

use std::{
    fmt::{self, Display},
    str::FromStr,
    time::{Duration, Instant},
};

/// The version of the text form.
const VERSION: &str = "1";

/// The position of a reader. Its text form ([`Display`], [`FromStr`]) can be stored, so that a consumer continues where it
/// was after a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    pub(super) history: History,
    /// Everything visible in this snapshot has been read.
    pub(super) seen: Snapshot,
    /// The rest of a window of which rows are left.
    pub(super) rest: Option<Rest>,
}

/// A server of which nothing was lost: it changes when the server is restarted, replaced by a standby or restored, and when
/// the table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct History {
    /// When the server started, in microseconds since 1970. No two servers start at the same one.
    pub(super) server: i64,
    /// The object id of the table, which a restore into a running server changes.
    pub(super) table: i64,
}

/// A snapshot of PostgreSQL, and when it was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Snapshot {
    /// As PostgreSQL writes it: `xmin:xmax:in progress`.
    pub(super) text: String,
    /// The time of the server, in microseconds since 1970.
    pub(super) at: i64,
    /// The time of this process, unless the snapshot was read from the text form of a position.
    pub(super) taken: Option<Instant>,
}

/// A window that has not been read to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rest {
    /// The end of the window.
    pub(super) until: Snapshot,
    /// The transaction and the id of the last row that was read.
    pub(super) after: (u64, i64),
}

impl Position {
    /// Returns the position after all rows that have been committed so far, skipping those that are left to read.
    #[must_use]
    pub fn skip_rest(mut self) -> Self {
        if let Some(Rest { until, .. }) = self.rest.take() {
            self.seen = until;
        }
        self
    }

    /// Counts every transaction that had begun as read, even if it had not committed. This is the mistake of a reader that
    /// compares numbers only; tests plant it to prove that they find it.
    #[must_use]
    pub fn ignoring_open_transactions(mut self) -> Self {
        let next = self.seen.next();
        self.seen.text = format!("{next}:{next}:");
        self
    }

    /// True if the same server was further than at `now`, which only a machine does that was set back with its memory.
    #[must_use]
    pub fn is_later_than(&self, now: &Self) -> bool {
        self.history == now.history && self.end().next() > now.seen.next()
    }

    fn end(&self) -> &Snapshot {
        self.rest.as_ref().map_or(&self.seen, |rest| &rest.until)
    }

    /// True if everything that has been read is part of the history in which `now` was taken, and nothing committed since can
    /// have been trimmed.
    pub(super) fn is_continued_by(&self, history: History, now: &Snapshot, max_age: Duration) -> bool {
        self.history == history
            && self.end().next() <= now.next()
            && self.seen.age(now).is_some_and(|age| age <= max_age)
    }
}

impl Snapshot {
    /// The first transaction that had not begun.
    pub(super) fn next(&self) -> u64 {
        self.text.split(':').nth(1).and_then(|xmax| xmax.parse().ok()).unwrap_or_default()
    }

    /// By whichever clock counts more, the server's or this process's. `None` if the server's went back.
    fn age(&self, now: &Self) -> Option<Duration> {
        let by_server = Duration::from_micros(u64::try_from(now.at - self.at).ok()?);
        let by_process = self.taken.zip(now.taken).map(|(then, now)| now.saturating_duration_since(then));
        Some(by_server.max(by_process.unwrap_or_default()))
    }
}

/// A text that is not a [`Position`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a position in an outbox")]
pub struct InvalidPosition;

impl Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { history: History { server, table }, seen, rest, .. } = self;
        write!(formatter, "{VERSION} {server} {table} {} {}", seen.text, seen.at)?;
        match rest {
            Some(Rest { until, after: (xact_id, outbox_id) }) => {
                write!(formatter, " {} {} {xact_id} {outbox_id}", until.text, until.at)
            }
            None => Ok(()),
        }
    }
}

impl FromStr for Position {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Self, InvalidPosition> {
        let parts: Vec<&str> = text.split(' ').collect();
        let (&[VERSION, server, table, seen, at], rest) = parts.split_first_chunk().ok_or(InvalidPosition)? else {
            return Err(InvalidPosition);
        };
        let rest = match *rest {
            [] => None,
            [until, at, xact_id, outbox_id] => {
                Some(Rest { until: snapshot(until, at)?, after: (number(xact_id)?, number(outbox_id)?) })
            }
            _ => return Err(InvalidPosition),
        };
        let history = History { server: number(server)?, table: number(table)? };
        Ok(Self { history, seen: snapshot(seen, at)?, rest })
    }
}

fn number<T: FromStr>(text: &str) -> Result<T, InvalidPosition> {
    text.parse().map_err(|_| InvalidPosition)
}

/// Checks the form, so that PostgreSQL is never sent a text that it refuses.
fn snapshot(text: &str, at: &str) -> Result<Snapshot, InvalidPosition> {
    let (xmin, rest) = text.split_once(':').ok_or(InvalidPosition)?;
    let (xmax, open) = rest.split_once(':').ok_or(InvalidPosition)?;
    let (xmin, xmax): (u64, u64) = (number(xmin)?, number(xmax)?);
    let open: Vec<u64> = open.split_terminator(',').map(number).collect::<Result<_, _>>()?;
    let is_valid = xmin > 0 && xmin <= xmax && open.is_sorted() && open.iter().all(|xid| (xmin..xmax).contains(xid));
    if is_valid { Ok(Snapshot { text: text.to_owned(), at: number(at)?, taken: None }) } else { Err(InvalidPosition) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_AGE: Duration = Duration::from_mins(2);

    fn position(text: &str) -> Position {
        text.parse().unwrap()
    }

    #[test]
    fn a_position_is_read_back_from_its_text() {
        for text in ["1 7 16384 10:20:10,14 55", "1 7 16384 10:10: 55 20:22:20 60 15 9", "1 0 0 3:4:3 -5"] {
            assert_eq!(position(text).to_string(), text);
        }
        let bad = [
            "",
            "1",
            "2 7 16384 10:20: 55",
            "1 7 16384 20:10: 55",
            "1 7 16384 10:20:9 55",
            "1 7 16384 10:20:12,11 55",
            "1 7 16384 10:20 55",
            "1 7 16384 10:20: x",
            "1 7 16384 10:20: 55 10:20: 60",
            "1 7 16384 10:20: 55 ",
        ];
        for text in bad {
            assert_eq!(text.parse::<Position>(), Err(InvalidPosition), "{text:?}");
        }
    }

    #[test]
    fn another_history_a_step_back_and_old_age_do_not_continue() {
        let before = position("1 7 16384 10:20:10 1000000");
        let continues = |now: &str| {
            let Position { history, seen, .. } = position(now);
            before.is_continued_by(history, &seen, MAX_AGE)
        };
        assert!(continues("1 7 16384 10:20:10 1000000"));
        assert!(continues("1 7 16384 30:30: 121000000"));
        assert!(!continues("1 8 16384 30:30: 1000001"), "another server");
        assert!(!continues("1 7 16385 30:30: 1000001"), "another table");
        assert!(!continues("1 7 16384 10:19: 1000001"), "a step back");
        assert!(!continues("1 7 16384 30:30: 121000001"), "too old");
        assert!(!continues("1 7 16384 30:30: 999999"), "the clock of the server went back");
    }

    #[test]
    fn a_server_that_was_set_back_while_it_ran_is_behind_an_earlier_position() {
        let before = position("1 7 16384 10:20:10 1000000 25:30: 2000000 15 9");
        for (now, is_later) in [
            ("1 7 16384 25:30: 3000000", false),
            ("1 7 16384 25:29: 3000000", true),
            ("1 8 16384 25:29: 3000000", false),
            ("1 7 16385 25:29: 3000000", false),
        ] {
            assert_eq!(before.is_later_than(&position(now)), is_later, "{now}");
        }
    }

    #[test]
    fn the_age_of_a_window_is_that_of_its_beginning() {
        let before = position("1 7 16384 10:20:10 1000000 30:30: 90000000 15 9");
        let at = |at| Snapshot { text: "40:40:".to_owned(), at, taken: None };
        assert!(before.is_continued_by(before.history, &at(121_000_000), MAX_AGE));
        assert!(!before.is_continued_by(before.history, &at(121_000_001), MAX_AGE));
    }

    #[test]
    fn the_clock_of_the_process_counts_where_the_servers_stands_still() {
        let mut before = position("1 7 16384 10:20:10 1000000");
        let began = Instant::now();
        before.seen.taken = Some(began);
        let now = Snapshot { taken: Some(began + Duration::from_mins(3)), ..before.seen.clone() };
        assert!(!before.is_continued_by(before.history, &now, MAX_AGE));
    }

    #[test]
    fn the_rest_of_a_window_can_be_skipped() {
        let position = position("1 7 16384 10:10: 55 20:22:20 60 15 9").skip_rest();
        assert_eq!(position.to_string(), "1 7 16384 20:22:20 60");
        assert_eq!(position.ignoring_open_transactions().to_string(), "1 7 16384 22:22: 60");
    }
}
