//! The schedule of a subscription: the conversations that are due to read their ring, and those that are behind and wait
//! for a page. Conversations take turns, so that the backlog of one delays no other.

use std::collections::{HashMap, VecDeque};

use crate::domain::ids::ConversationId;

/// The conversations of one subscription that have something to do, each once. All others wait for their heads to move.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    due: VecDeque<ConversationId>,
    behind: VecDeque<ConversationId>,
    turns: HashMap<ConversationId, Turn>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// In the queue of those that are due.
    Due,
    /// In the queue of those that are behind.
    Behind,
    /// Its page is being fetched.
    Fetching,
}

impl Schedule {
    /// Makes a conversation due, unless it is already, or is behind.
    pub(super) fn schedule(&mut self, id: &ConversationId) {
        if !self.turns.contains_key(id) {
            self.turns.insert(id.clone(), Turn::Due);
            self.due.push_back(id.clone());
        }
        self.check();
    }

    /// Takes the next conversation that is due.
    pub(super) fn take_due(&mut self) -> Option<ConversationId> {
        let id = self.due.pop_front()?;
        self.turns.remove(&id);
        Some(id)
    }

    /// Returns true while a conversation is due.
    pub(super) fn has_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// Puts a conversation that is neither due nor behind at the end of those that wait for a page.
    pub(super) fn fall_behind(&mut self, id: &ConversationId) {
        debug_assert!(!self.turns.contains_key(id), "it has had its turn");
        self.wait_for_page(id);
    }

    /// Takes the next conversation that is behind, in order to fetch its page.
    pub(super) fn take_behind(&mut self) -> Option<ConversationId> {
        let id = self.behind.pop_front()?;
        self.turns.insert(id.clone(), Turn::Fetching);
        Some(id)
    }

    /// Returns true while the page of this conversation is being fetched.
    pub(super) fn is_fetching(&self, id: &ConversationId) -> bool {
        self.turns.get(id) == Some(&Turn::Fetching)
    }

    /// Makes a conversation due after its page has arrived.
    pub(super) fn page_arrived(&mut self, id: &ConversationId) {
        debug_assert!(self.is_fetching(id), "its page was fetched");
        self.turns.remove(id);
        self.schedule(id);
    }

    /// Puts a conversation whose page did not arrive back at the end of those that wait for one.
    pub(super) fn retry(&mut self, id: &ConversationId) {
        debug_assert!(self.is_fetching(id), "its page was fetched");
        self.wait_for_page(id);
    }

    /// Removes a conversation.
    pub(super) fn remove(&mut self, id: &ConversationId) {
        match self.turns.remove(id) {
            Some(Turn::Due) => self.due.retain(|other| other != id),
            Some(Turn::Behind) => self.behind.retain(|other| other != id),
            Some(Turn::Fetching) | None => {}
        }
        self.check();
    }

    fn wait_for_page(&mut self, id: &ConversationId) {
        self.turns.insert(id.clone(), Turn::Behind);
        self.behind.push_back(id.clone());
        self.check();
    }

    /// Checks that each conversation is in one queue at most, and at most one page is being fetched.
    fn check(&self) {
        debug_assert!(
            (self.turns.len() - self.due.len() - self.behind.len()) <= 1,
            "each conversation has one turn: {self:?}"
        );
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ids(names: &[&str]) -> Vec<ConversationId> {
        names.iter().map(|name| (*name).into()).collect()
    }

    #[test]
    fn conversations_take_turns_in_the_order_in_which_they_moved() {
        let mut schedule = Schedule::default();
        for id in ids(&["a", "b", "a", "c"]) {
            schedule.schedule(&id);
        }
        let first = schedule.take_due().unwrap();
        schedule.schedule(&first);
        let order: Vec<_> = std::iter::from_fn(|| schedule.take_due()).collect();
        assert_eq!((first, order), ("a".into(), ids(&["b", "c", "a"])));
        assert!(!schedule.has_due());
    }

    #[test]
    fn a_conversation_that_is_behind_is_not_due_before_its_page_arrives() {
        let mut schedule = Schedule::default();
        let id: ConversationId = "a".into();
        schedule.schedule(&id);
        schedule.take_due();
        schedule.fall_behind(&id);
        schedule.schedule(&id);
        assert!(!schedule.has_due() && !schedule.is_fetching(&id));
        assert_eq!(schedule.take_behind().as_ref(), Some(&id));
        schedule.schedule(&id);
        assert!(!schedule.has_due() && schedule.is_fetching(&id));
        schedule.retry(&id);
        assert_eq!(schedule.take_behind().as_ref(), Some(&id));
        schedule.page_arrived(&id);
        assert_eq!(schedule.take_due().as_ref(), Some(&id));
    }

    #[test]
    fn a_retry_waits_behind_the_others() {
        let mut schedule = Schedule::default();
        for id in ids(&["a", "b"]) {
            schedule.fall_behind(&id);
        }
        let first = schedule.take_behind().unwrap();
        schedule.retry(&first);
        assert_eq!(schedule.take_behind(), Some("b".into()));
    }

    proptest! {
        /// Whatever happens, each conversation has one turn at most, and none that was scheduled is forgotten.
        #[test]
        fn each_scheduled_conversation_has_its_turn(steps in prop::collection::vec((0..6u8, 0..5u8), 0..200)) {
            let mut schedule = Schedule::default();
            let mut waiting = std::collections::HashSet::new();
            let mut fetching: Option<ConversationId> = None;
            for (step, name) in steps {
                let id = ConversationId::from(name.to_string().as_str());
                match (step, fetching.clone()) {
                    (0 | 1, _) => {
                        schedule.schedule(&id);
                        waiting.insert(id);
                    }
                    (2, _) => if let Some(due) = schedule.take_due() {
                        prop_assert!(waiting.remove(&due));
                    },
                    (3, _) => if let Some(due) = schedule.take_due() {
                        schedule.fall_behind(&due);
                    },
                    (4, None) => fetching = schedule.take_behind(),
                    (4, Some(id)) => {
                        fetching = None;
                        schedule.page_arrived(&id);
                    }
                    (_, Some(id)) => {
                        fetching = None;
                        schedule.retry(&id);
                    }
                    (_, None) => {
                        schedule.remove(&id);
                        waiting.remove(&id);
                    }
                }
            }
            if let Some(id) = fetching {
                schedule.page_arrived(&id);
            }
            while let Some(id) = schedule.take_behind() {
                schedule.page_arrived(&id);
            }
            let turns: Vec<_> = std::iter::from_fn(|| schedule.take_due()).collect();
            prop_assert_eq!(turns.len(), waiting.len());
            prop_assert_eq!(turns.into_iter().collect::<std::collections::HashSet<_>>(), waiting);
        }
    }
}
