//! Counts by key, of which none is kept at zero: for shares of users or addresses, of which there may be any number.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex},
};

use crate::sync::lock;

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

/// An amount in use, bounded in all and for each key. Cheap to clone; clones share it.
#[derive(Debug, Clone)]
pub struct Bounded<K> {
    used: Arc<Mutex<Used<K>>>,
    most: usize,
    most_of_key: usize,
}

#[derive(Debug)]
struct Used<K> {
    all: usize,
    by_key: Counts<K>,
}

/// There is not so much left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// Of the whole amount.
    All,
    /// Of the share of this key.
    Key,
}

/// A part of a bounded amount, given back when this is dropped.
#[derive(Debug)]
pub struct Part<K: Hash + Eq + Clone> {
    of: Bounded<K>,
    key: K,
    amount: usize,
}

impl<K: Hash + Eq + Clone> Bounded<K> {
    /// Creates an amount of which nothing is in use.
    #[must_use]
    pub fn new(most: usize, most_of_key: usize) -> Self {
        Self { used: Arc::new(Mutex::new(Used { all: 0, by_key: Counts::default() })), most, most_of_key }
    }

    /// Takes a part, which may be 0.
    ///
    /// # Errors
    /// [`Full`]; nothing is taken.
    pub fn take(&self, key: &K, amount: usize) -> Result<Part<K>, Full> {
        self.add(key, amount)?;
        Ok(Part { of: self.clone(), key: key.clone(), amount })
    }

    /// Returns how much is in use.
    pub fn used(&self) -> usize {
        lock(&self.used).all
    }

    fn add(&self, key: &K, amount: usize) -> Result<(), Full> {
        let mut used = lock(&self.used);
        let all = used.all.saturating_add(amount);
        if all > self.most {
            return Err(Full::All);
        }
        if amount > 0 && !used.by_key.add(key, amount, self.most_of_key) {
            return Err(Full::Key);
        }
        used.all = all;
        Ok(())
    }
}

impl<K: Hash + Eq + Clone> Part<K> {
    /// Takes more, up to this amount; less than it has changes nothing.
    ///
    /// # Errors
    /// [`Full`]; the part stays as it is.
    pub fn grow_to(&mut self, amount: usize) -> Result<(), Full> {
        self.of.add(&self.key, amount.saturating_sub(self.amount))?;
        self.amount = self.amount.max(amount);
        Ok(())
    }
}

impl<K: Hash + Eq + Clone> Drop for Part<K> {
    fn drop(&mut self) {
        let mut used = lock(&self.of.used);
        used.all -= self.amount;
        used.by_key.take_back(&self.key, self.amount);
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

    #[test]
    fn a_key_has_a_share_and_all_keys_have_the_whole() {
        let bounded = Bounded::new(5, 3);
        let mut first = bounded.take(&"one", 2).unwrap();
        assert_eq!(bounded.take(&"one", 2).unwrap_err(), Full::Key);
        first.grow_to(3).unwrap();
        first.grow_to(1).unwrap();
        assert_eq!(first.grow_to(4).unwrap_err(), Full::Key);
        assert_eq!(bounded.take(&"other", 3).unwrap_err(), Full::All);
        let other = bounded.take(&"other", 2).unwrap();
        let nothing = bounded.take(&"third", 0).unwrap();
        assert_eq!(bounded.used(), 5);
        drop((first, other, nothing));
        assert!(bounded.used() == 0 && lock(&bounded.used).by_key.is_empty());
    }
}
