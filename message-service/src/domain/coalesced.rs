//! Ephemerals that wait for delivery. A newer one replaces an older one of the same conversation, user and kind, and their
//! number is bounded, so that a slow receiver costs bounded memory.

use std::{
    collections::HashMap,
    mem::{Discriminant, discriminant},
};

use super::{
    ephemeral::{Ephemeral, EphemeralKind},
    ids::{ConversationId, UserId},
};

type Key = (ConversationId, UserId, Discriminant<EphemeralKind>);

/// At most `MAX` values, one for each conversation, user and kind of ephemeral.
#[derive(Debug)]
pub(crate) struct Coalesced<V, const MAX: usize> {
    values: HashMap<Key, V>,
}

impl<V, const MAX: usize> Default for Coalesced<V, MAX> {
    fn default() -> Self {
        Self { values: HashMap::new() }
    }
}

impl<V, const MAX: usize> Coalesced<V, MAX> {
    /// Adds the value of an ephemeral, or replaces the older one. Returns false if it was dropped because there is no
    /// space.
    pub(crate) fn insert(&mut self, ephemeral: &Ephemeral, value: V) -> bool {
        let key = (ephemeral.conversation_id.clone(), ephemeral.user_id.clone(), discriminant(&ephemeral.kind));
        let fits = self.values.len() < MAX || self.values.contains_key(&key);
        if fits {
            self.values.insert(key, value);
        }
        fits
    }

    /// Removes and returns all values with their conversations, in no particular order.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = (ConversationId, V)> + use<V, MAX> {
        std::mem::take(&mut self.values).into_iter().map(|((conversation_id, ..), value)| (conversation_id, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::sequence::Position;

    fn typing(user_id: &str) -> Ephemeral {
        let (conversation_id, user_id) = ("g".into(), user_id.into());
        Ephemeral { conversation_id, user_id, kind: EphemeralKind::Typing, to_others: true }
    }

    fn read_marker(user_id: &str, sequence: i64) -> Ephemeral {
        let kind = EphemeralKind::ReadMarker { last_read_sequence: Position::new(sequence).unwrap() };
        Ephemeral { kind, ..typing(user_id) }
    }

    fn sorted<const MAX: usize>(coalesced: &mut Coalesced<u32, MAX>) -> Vec<u32> {
        let mut values: Vec<u32> = coalesced.take().map(|(_, value)| value).collect();
        values.sort_unstable();
        values
    }

    #[test]
    fn a_newer_value_replaces_the_older_one_of_the_same_conversation_user_and_kind() {
        let mut coalesced = Coalesced::<u32, 9>::default();
        let elsewhere = Ephemeral { conversation_id: "h".into(), ..typing("ann") };
        for (value, ephemeral) in
            (1..).zip([typing("ann"), read_marker("ann", 1), read_marker("ann", 2), typing("ben"), elsewhere])
        {
            assert!(coalesced.insert(&ephemeral, value));
        }
        assert_eq!(sorted(&mut coalesced), [1, 3, 4, 5]);
        assert_eq!(coalesced.take().count(), 0);
    }

    #[test]
    fn a_full_map_drops_new_keys_and_still_replaces_known_ones() {
        let mut coalesced = Coalesced::<u32, 2>::default();
        assert!(coalesced.insert(&typing("ann"), 1) && coalesced.insert(&typing("ben"), 2));
        assert!(!coalesced.insert(&typing("cat"), 3));
        assert!(coalesced.insert(&typing("ann"), 4));
        assert_eq!(sorted(&mut coalesced), [2, 4]);
    }
}
