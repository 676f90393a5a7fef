//! Counts by key, of which none is kept at zero: for shares of users or addresses, of which there may be any number.

use std::{collections::HashMap, hash::Hash};

/// Counts by key.
#[derive(Debug)]
pub struct Counts<K>(HashMap<K, usize>);

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Hash + Eq + Clone> Counts<K> {
    /// Adds an amount to the count of a key if that stays within `most`; returns false and adds nothing if it does not.
    pub fn add(&mut self, key: &K, amount: usize, most: usize) -> bool {
        let count = self.0.get(key).copied().unwrap_or_default().saturating_add(amount);
        if count > most {
            return false;
        }
        match self.0.get_mut(key) {
            Some(counted) => *counted = count,
            None => drop(self.0.insert(key.clone(), count)),
        }
        true
    }

    /// Takes back an amount that was added.
    pub fn take_back(&mut self, key: &K, amount: usize) {
        if let Some(count) = self.0.get_mut(key) {
            *count -= amount;
            if *count == 0 {
                self.0.remove(key);
            }
        }
    }

    /// Returns true if nothing is counted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_its_own_bound_and_is_forgotten_at_zero() {
        let mut counts = Counts::default();
        assert!(counts.add(&"one", 2, 3) && !counts.add(&"one", 2, 3) && counts.add(&"one", 1, 3));
        assert!(counts.add(&"other", 3, 3) && !counts.add(&"other", usize::MAX, 3));
        counts.take_back(&"one", 2);
        counts.take_back(&"other", 3);
        assert!(!counts.is_empty() && counts.add(&"one", 2, 3));
        counts.take_back(&"one", 3);
        assert!(counts.is_empty());
    }
}
