//! Amounts in use, bounded in all and for each key, such as a user or an address, of which there may be any number.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex},
};

use crate::sync::lock;

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
    /// None of them is 0.
    by_key: HashMap<K, usize>,
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
        Self { used: Arc::new(Mutex::new(Used { all: 0, by_key: HashMap::new() })), most, most_of_key }
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
        let of_key = used.by_key.get(key).copied().unwrap_or_default().saturating_add(amount);
        if of_key > self.most_of_key {
            return Err(Full::Key);
        }
        used.all = all;
        match used.by_key.get_mut(key) {
            Some(count) => *count = of_key,
            None if of_key > 0 => drop(used.by_key.insert(key.clone(), of_key)),
            None => {}
        }
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
        if let Some(of_key) = used.by_key.get_mut(&self.key) {
            *of_key -= self.amount;
            if *of_key == 0 {
                used.by_key.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
