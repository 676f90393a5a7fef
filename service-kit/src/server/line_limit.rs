//! A limit on the lines about failed calls: clients decide how many calls fail, and must not decide how much is written.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use crate::sync::lock;

/// The most lines in a second.
const MOST: u32 = 100;

const WINDOW: Duration = Duration::from_secs(1);

/// The lines of the last second.
#[derive(Debug, Default)]
pub(super) struct LineLimit(Mutex<Option<Window>>);

#[derive(Debug)]
struct Window {
    began: Instant,
    written: u32,
    left_out: u64,
}

impl LineLimit {
    /// Counts a line. Returns how many were left out before it, in an earlier second; `None` if it must be left out itself.
    pub(super) fn count(&self, now: Instant) -> Option<u64> {
        let mut window = lock(&self.0);
        let window = window.get_or_insert(Window { began: now, written: 0, left_out: 0 });
        let mut left_out = 0;
        if now.saturating_duration_since(window.began) >= WINDOW {
            left_out = window.left_out;
            *window = Window { began: now, written: 0, left_out: 0 };
        }
        if window.written == MOST {
            window.left_out += 1;
            return None;
        }
        window.written += 1;
        Some(left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_beyond_the_limit_are_counted_and_reported_with_the_first_of_a_later_second() {
        let (limit, began) = (LineLimit::default(), Instant::now());
        let allowed = |at: Duration| (0..300).filter_map(|_| limit.count(began + at)).collect::<Vec<_>>();
        let first = allowed(Duration::ZERO);
        assert_eq!(first.len(), 100);
        assert!(allowed(Duration::from_millis(999)).is_empty());
        let second = allowed(Duration::from_secs(2));
        assert_eq!((second.len(), second[0]), (100, 500));
        assert!([&first[..], &second[1..]].concat().iter().all(|left_out| *left_out == 0));
    }
}
