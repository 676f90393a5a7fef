//! The users who are typing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::sanitize::sanitize_line;

/// The time that a user is shown as typing after each notification, as the API defines.
const SHOWN_FOR: Duration = Duration::from_secs(6);

/// The most users that are remembered.
const MAX_TYPISTS: usize = 16;

/// The most users that are named; more are "several people".
const MAX_NAMED: usize = 2;

/// The longest name that is shown in full: the text must fit in one row of a narrow terminal.
const MAX_NAME_CHARS: usize = 20;

/// The users who are typing, with the time of the last notification.
#[derive(Debug, Default)]
pub(super) struct Typists {
    last_typing_at: BTreeMap<String, Instant>,
}

impl Typists {
    /// Records that a user is typing.
    pub(super) fn typing(&mut self, user_id: &str, now: Instant) {
        if self.last_typing_at.len() < MAX_TYPISTS || self.last_typing_at.contains_key(user_id) {
            self.last_typing_at.insert(user_id.to_owned(), now);
        }
    }

    /// Removes a user whose message has arrived.
    pub(super) fn done(&mut self, user_id: &str) {
        self.last_typing_at.remove(user_id);
    }

    /// Returns the text to show; empty if no user is typing.
    pub(super) fn text(&mut self, now: Instant) -> String {
        self.last_typing_at.retain(|_, at| now.duration_since(*at) < SHOWN_FOR);
        let names: Vec<String> = self.last_typing_at.keys().take(MAX_NAMED).map(|name| shortened(name)).collect();
        match (&*names, self.last_typing_at.len()) {
            ([], _) => String::new(),
            ([one], 1) => format!("{one} is typing…"),
            ([one, other], 2) => format!("{one} and {other} are typing…"),
            _ => "several people are typing…".to_owned(),
        }
    }
}

/// Returns a name that fits, without anything that a terminal would act on.
fn shortened(name: &str) -> String {
    let name = sanitize_line(name);
    if name.chars().count() <= MAX_NAME_CHARS {
        return name;
    }
    name.chars().take(MAX_NAME_CHARS - 1).chain(['…']).collect()
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
        typists.typing("bob", at(0));
        typists.typing("bob", at(3));
        assert_eq!(typists.text(at(8)), "bob is typing…");
        typists.typing("ann", at(8));
        assert_eq!(typists.text(at(8)), "ann and bob are typing…");
        typists.typing("cat", at(8));
        assert_eq!(typists.text(at(8)), "several people are typing…");
        typists.done("cat");
        assert_eq!(typists.text(at(9)), "ann is typing…");
        assert_eq!(typists.text(at(14)), "");
    }

    #[test]
    fn a_name_cannot_control_the_terminal() {
        let began = Instant::now();
        let mut typists = Typists::default();
        typists.typing("\u{1b}]0;owned\u{7}bob", began);
        let text = typists.text(began);
        assert!(!text.chars().any(char::is_control) && text.contains("bob"), "{text:?}");
    }

    #[test]
    fn neither_many_nor_long_names_are_too_much() {
        let now = Instant::now();
        let mut typists = Typists::default();
        typists.typing(&"x".repeat(64), now);
        assert!(typists.text(now).chars().count() < 40);
        (0..1_000).for_each(|n| typists.typing(&n.to_string(), now));
        assert_eq!(typists.last_typing_at.len(), MAX_TYPISTS);
    }
}
