//! Who is typing, as far as one has been told.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long one who said to be typing is shown; the contract's figure.
const SHOWN_FOR: Duration = Duration::from_secs(6);

/// The most that are remembered.
const MOST: usize = 16;

/// The most that are named; more are "several people".
const NAMED: usize = 2;

/// The longest name that is shown in full: the text must stay within one row of a narrow terminal.
const LONGEST: usize = 20;

/// Those who said so lately.
#[derive(Debug, Default)]
pub(super) struct Typists {
    last_told: BTreeMap<String, Instant>,
}

impl Typists {
    /// Somebody says to be typing.
    pub(super) fn told(&mut self, user_id: &str, now: Instant) {
        if self.last_told.len() < MOST || self.last_told.contains_key(user_id) {
            self.last_told.insert(user_id.to_owned(), now);
        }
    }

    /// Somebody's message came.
    pub(super) fn done(&mut self, user_id: &str) {
        self.last_told.remove(user_id);
    }

    /// What to show; empty when nobody is typing.
    pub(super) fn text(&mut self, now: Instant) -> String {
        self.last_told.retain(|_, told| now.duration_since(*told) < SHOWN_FOR);
        let names: Vec<String> = self.last_told.keys().take(NAMED).map(|name| shortened(name)).collect();
        match (&*names, self.last_told.len()) {
            ([], _) => String::new(),
            ([one], 1) => format!("{one} is typing…"),
            ([one, other], 2) => format!("{one} and {other} are typing…"),
            _ => "several people are typing…".to_owned(),
        }
    }
}

fn shortened(name: &str) -> String {
    if name.chars().count() <= LONGEST {
        return name.to_owned();
    }
    name.chars().take(LONGEST - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_is_shown_until_it_is_old_or_the_message_comes() {
        let began = Instant::now();
        let at = |seconds: u64| began + Duration::from_secs(seconds);
        let mut typists = Typists::default();
        assert_eq!(typists.text(at(0)), "");
        typists.told("bob", at(0));
        typists.told("bob", at(3));
        assert_eq!(typists.text(at(8)), "bob is typing…");
        typists.told("ann", at(8));
        assert_eq!(typists.text(at(8)), "ann and bob are typing…");
        typists.told("cat", at(8));
        assert_eq!(typists.text(at(8)), "several people are typing…");
        typists.done("cat");
        assert_eq!(typists.text(at(9)), "ann is typing…");
        assert_eq!(typists.text(at(14)), "");
    }

    #[test]
    fn neither_many_nor_long_names_are_too_much() {
        let now = Instant::now();
        let mut typists = Typists::default();
        typists.told(&"x".repeat(64), now);
        assert!(typists.text(now).chars().count() < 40);
        (0..1_000).for_each(|n| typists.told(&n.to_string(), now));
        assert_eq!(typists.last_told.len(), MOST);
    }
}
