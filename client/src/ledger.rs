//! Where a session is in each conversation, and what an incoming entry means given that. Pure.

use std::collections::HashMap;

use parlance::message::v1::Cursor;

use crate::session::Update;

/// What becomes of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is the next one.
    New,
    /// It was told before.
    Repeat,
    /// Something between the last one and this one is missing.
    Gap,
}

/// The last sequence of each conversation.
#[derive(Debug, Default, Clone)]
pub(crate) struct Ledger {
    positions: HashMap<String, i64>,
}

impl Ledger {
    /// Takes up where an earlier session was.
    pub(crate) fn new(cursors: impl IntoIterator<Item = (String, i64)>) -> Self {
        Self { positions: cursors.into_iter().collect() }
    }

    /// An entry came. Of a conversation that is not known any entry is the first.
    pub(crate) fn entry(&mut self, conversation_id: &str, sequence: i64) -> Verdict {
        match self.positions.get_mut(conversation_id) {
            None => {
                self.positions.insert(conversation_id.to_owned(), sequence);
                Verdict::New
            }
            Some(position) if sequence == *position + 1 => {
                *position = sequence;
                Verdict::New
            }
            Some(position) if sequence <= *position => Verdict::Repeat,
            Some(_) => Verdict::Gap,
        }
    }

    /// Everything up to here is said to have been told; false if it was not.
    pub(crate) fn caught_up(&mut self, conversation_id: &str, sequence: i64) -> bool {
        *self.positions.entry(conversation_id.to_owned()).or_insert(sequence) >= sequence
    }

    /// What is before this is no longer kept.
    pub(crate) fn truncated(&mut self, conversation_id: &str, oldest_sequence: i64) {
        let position = self.positions.entry(conversation_id.to_owned()).or_default();
        *position = (*position).max(oldest_sequence - 1);
    }

    /// Nothing more comes of a conversation; should it come again, it begins anew.
    pub(crate) fn closed(&mut self, conversation_id: &str) {
        self.positions.remove(conversation_id);
    }

    /// The application has taken an update, which comes of a ledger that has judged it.
    pub(crate) fn take(&mut self, update: &Update) {
        match update {
            Update::Event(event) if event.sequence > 0 => {
                self.positions.insert(event.conversation_id.clone(), event.sequence);
            }
            Update::CaughtUp { conversation_id, sequence } => {
                self.caught_up(conversation_id, *sequence);
            }
            Update::Truncated { conversation_id, oldest_sequence } => self.truncated(conversation_id, *oldest_sequence),
            Update::Closed { conversation_id, .. } => self.closed(conversation_id),
            Update::Event(_)
            | Update::AllCaughtUp
            | Update::Connected
            | Update::Disconnected { .. }
            | Update::Ended(_) => {}
        }
    }

    /// What to take up with.
    pub(crate) fn cursors(&self) -> Vec<Cursor> {
        let cursor = |(id, after): (&String, &i64)| Cursor { conversation_id: id.clone(), after_sequence: *after };
        self.positions.iter().map(cursor).collect()
    }

    /// The same as pairs.
    pub(crate) fn positions(&self) -> HashMap<String, i64> {
        self.positions.clone()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// However often the connection breaks, and from wherever up to its cursor it is told again, a session is told each
        /// entry once and in order; what is left out is noticed.
        #[test]
        fn each_entry_is_new_once_and_a_gap_is_noticed(
            length in 1..60i64,
            breaks in prop::collection::vec((1..60i64, 0..10i64), 0..8),
            skip in prop::option::of(2..60i64),
        ) {
            let mut ledger = Ledger::new([("c".to_owned(), 0)]);
            let (mut told, mut next) = (Vec::new(), 1);
            for (after, back) in breaks.into_iter().chain([(length, 0)]) {
                while next <= length.min(after) {
                    if Some(next) == skip {
                        next += 1;
                        continue;
                    }
                    match ledger.entry("c", next) {
                        Verdict::New => told.push(next),
                        Verdict::Repeat => prop_assert!(told.contains(&next)),
                        // The session takes up from its cursor, where nothing is left out.
                        Verdict::Gap => {
                            prop_assert!(skip.is_some_and(|skip| skip < next && !told.contains(&skip)));
                            next = ledger.positions["c"] + 1;
                            prop_assert_eq!(ledger.entry("c", next), Verdict::New);
                            told.push(next);
                        }
                    }
                    next += 1;
                }
                next = (ledger.positions["c"] + 1 - back).max(1);
            }
            if skip.is_some_and(|skip| skip == length) {
                prop_assert!(!ledger.caught_up("c", length) || told.contains(&length));
            } else {
                prop_assert!(ledger.caught_up("c", length));
                prop_assert_eq!(told, (1..=length).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn a_conversation_that_was_closed_begins_anew() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.entry("c", 7), Verdict::New);
        assert_eq!(ledger.entry("c", 9), Verdict::Gap);
        ledger.closed("c");
        assert_eq!(ledger.entry("c", 30), Verdict::New);
        ledger.truncated("c", 40);
        assert_eq!((ledger.entry("c", 39), ledger.entry("c", 40)), (Verdict::Repeat, Verdict::New));
        assert!(ledger.caught_up("d", 5) && !ledger.caught_up("d", 6));
        assert_eq!(ledger.cursors().len(), 2);
    }
}
