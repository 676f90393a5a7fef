//! The position of a session in each conversation, and the check of incoming entries against it. Pure.

use std::collections::{HashMap, HashSet};

use parlance::message::v1::Cursor;

use crate::update::Update;

/// The result of comparing an incoming entry with the position in its conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The entry is the next one.
    New,
    /// The entry was received before.
    Duplicate,
    /// An entry between the last one and this one is missing.
    Gap,
}

/// The last sequence received in each conversation.
#[derive(Debug, Default, Clone)]
pub(crate) struct Positions {
    by_conversation: HashMap<String, i64>,
    /// The conversations of which an entry was missing: their cursors come first, in case not all are sent.
    with_gaps: HashSet<String>,
    /// The epoch of the log that the positions are in; empty if it is not known.
    epoch: String,
}

impl Positions {
    /// Resumes from the cursors of an earlier session and the epoch of these.
    pub(crate) fn new(cursors: impl IntoIterator<Item = (String, i64)>, epoch: String) -> Self {
        Self { by_conversation: cursors.into_iter().collect(), with_gaps: HashSet::new(), epoch }
    }

    /// Enters an epoch: the service has checked the positions, and closed those that do not belong to it. Returns true if it
    /// is another one.
    pub(crate) fn enter(&mut self, epoch: &str) -> bool {
        let is_new = !epoch.is_empty() && self.epoch != epoch;
        if is_new {
            epoch.clone_into(&mut self.epoch);
        }
        is_new
    }

    /// Returns the epoch of the positions; empty if it is not known.
    pub(crate) fn epoch(&self) -> &str {
        &self.epoch
    }

    /// Checks an entry and advances past it if it is the next one. Any entry of an unknown conversation is its first.
    pub(crate) fn advance(&mut self, conversation_id: &str, sequence: i64) -> Verdict {
        match self.by_conversation.get_mut(conversation_id) {
            None => {
                self.by_conversation.insert(conversation_id.to_owned(), sequence);
                Verdict::New
            }
            Some(position) if sequence <= *position => Verdict::Duplicate,
            Some(position) if sequence - 1 == *position => {
                *position = sequence;
                Verdict::New
            }
            Some(_) => {
                self.with_gaps.insert(conversation_id.to_owned());
                Verdict::Gap
            }
        }
    }

    /// Checks a `caught_up` mark. Returns false if entries before it are missing.
    pub(crate) fn caught_up(&mut self, conversation_id: &str, sequence: i64) -> bool {
        let has_all = *self.by_conversation.entry(conversation_id.to_owned()).or_insert(sequence) >= sequence;
        if has_all {
            self.with_gaps.remove(conversation_id);
        } else {
            self.with_gaps.insert(conversation_id.to_owned());
        }
        has_all
    }

    /// Skips the entries before `oldest_sequence`, which are no longer kept.
    pub(crate) fn truncated(&mut self, conversation_id: &str, oldest_sequence: i64) {
        let position = self.by_conversation.entry(conversation_id.to_owned()).or_default();
        *position = (*position).max(oldest_sequence.saturating_sub(1));
    }

    /// Forgets a conversation that has ended. If entries of it arrive later, the first one sets the position.
    pub(crate) fn closed(&mut self, conversation_id: &str) {
        self.by_conversation.remove(conversation_id);
        self.with_gaps.remove(conversation_id);
    }

    /// Advances past an update that the application has received. The update was checked before it was buffered.
    pub(crate) fn advance_past(&mut self, update: &Update) {
        match update {
            Update::Event(event) if event.sequence > 0 => {
                self.by_conversation.insert(event.conversation_id.clone(), event.sequence);
            }
            Update::CaughtUp { conversation_id, sequence } => {
                self.caught_up(conversation_id, *sequence);
            }
            Update::Truncated { conversation_id, oldest_sequence } => self.truncated(conversation_id, *oldest_sequence),
            Update::Closed { conversation_id, .. } => self.closed(conversation_id),
            Update::Epoch(epoch) => {
                self.enter(epoch);
            }
            Update::Event(_)
            | Update::AllCaughtUp
            | Update::Connected
            | Update::Disconnected { .. }
            | Update::Ended(_) => {}
        }
    }

    /// Returns the cursors to resume with, first those that must be sent.
    pub(crate) fn cursors(&self) -> Vec<Cursor> {
        let cursor = |(id, after): (&String, &i64)| Cursor { conversation_id: id.clone(), after_sequence: *after };
        let mut cursors: Vec<Cursor> = self.by_conversation.iter().map(cursor).collect();
        cursors.sort_by_key(|cursor| !self.with_gaps.contains(&cursor.conversation_id));
        cursors
    }

    /// Returns the last sequence by conversation id.
    pub(crate) fn to_map(&self) -> HashMap<String, i64> {
        self.by_conversation.clone()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Delivers each entry once and in order and detects a missing one, however often the connection breaks and from
        /// whatever position up to the cursor it resumes.
        #[test]
        fn each_entry_is_new_once_and_a_gap_is_noticed(
            length in 1..60i64,
            breaks in prop::collection::vec((1..60i64, 0..10i64), 0..8),
            skip in prop::option::of(2..60i64),
        ) {
            let mut positions = Positions::new([("c".to_owned(), 0)], String::new());
            let (mut received, mut next) = (Vec::new(), 1);
            for (after, back) in breaks.into_iter().chain([(length, 0)]) {
                while next <= length.min(after) {
                    if Some(next) == skip {
                        next += 1;
                        continue;
                    }
                    match positions.advance("c", next) {
                        Verdict::New => received.push(next),
                        Verdict::Duplicate => prop_assert!(received.contains(&next)),
                        // The session resumes from its cursor, where no entry is missing.
                        Verdict::Gap => {
                            prop_assert!(skip.is_some_and(|skip| skip < next && !received.contains(&skip)));
                            next = positions.by_conversation["c"] + 1;
                            prop_assert_eq!(positions.advance("c", next), Verdict::New);
                            received.push(next);
                        }
                    }
                    next += 1;
                }
                next = (positions.by_conversation["c"] + 1 - back).max(1);
            }
            if skip.is_some_and(|skip| skip == length) {
                prop_assert!(!positions.caught_up("c", length) || received.contains(&length));
            } else {
                prop_assert!(positions.caught_up("c", length));
                prop_assert_eq!(received, (1..=length).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn numbers_at_the_ends_of_their_range_are_compared_like_others() {
        let mut positions = Positions::default();
        assert_eq!(positions.advance("c", i64::MAX), Verdict::New);
        assert_eq!(positions.advance("c", i64::MAX), Verdict::Duplicate);
        assert_eq!(positions.advance("c", 1), Verdict::Duplicate);
        positions.truncated("d", i64::MIN);
        assert_eq!(positions.advance("d", 1), Verdict::New);
    }

    #[test]
    fn a_closed_conversation_starts_over() {
        let mut positions = Positions::default();
        assert_eq!(positions.advance("c", 7), Verdict::New);
        assert_eq!(positions.advance("c", 9), Verdict::Gap);
        positions.closed("c");
        assert_eq!(positions.advance("c", 30), Verdict::New);
        positions.truncated("c", 40);
        assert_eq!((positions.advance("c", 39), positions.advance("c", 40)), (Verdict::Duplicate, Verdict::New));
        assert!(positions.caught_up("d", 5) && !positions.caught_up("d", 6));
        assert_eq!(positions.cursors()[0].conversation_id, "d", "an entry of it was missing");
        assert_eq!(positions.cursors().len(), 2);
    }
}
