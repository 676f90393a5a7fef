//! Usernames: as written for people, as a key for comparing and ordering.

use service_kit::bounds::{self, OutOfBounds};

/// Sorts after every character of names, and no name contains it.
const AFTER_ALL_NAMES: char = '~';

/// A name as its user writes it. 1 to 64 of `A-Z a-z 0-9 . _ -`, unique without regard to case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Username(String);

impl Username {
    /// Checks the bounds.
    pub(crate) fn parse(text: &str) -> Result<Self, OutOfBounds> {
        bounds::username(text).map(|()| Self(text.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn into_string(self) -> String {
        self.0
    }

    /// The key that is equal for names that differ only in case. PostgreSQL's `lower` in the collation "C" returns the same.
    pub(crate) fn key(&self) -> String {
        self.0.to_ascii_lowercase()
    }
}

/// A prefix of names, regardless of case: at most 64 of `A-Z a-z 0-9 . _ -`, possibly none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct UsernamePrefix(String);

impl UsernamePrefix {
    /// Checks the bounds.
    pub(crate) fn parse(text: &str) -> Result<Self, OutOfBounds> {
        if text.is_empty() || bounds::username(text).is_ok() {
            Ok(Self(text.to_ascii_lowercase()))
        } else {
            Err(OutOfBounds("must be at most 64 of A-Z a-z 0-9 . _ -"))
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The lower bound of keys with this prefix.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The upper bound of keys with this prefix, below the keys of deleted users.
    pub(crate) fn upper_bound(&self) -> String {
        format!("{}{AFTER_ALL_NAMES}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_met_at_the_edge() {
        for good in ["a", "Bob", "x.y_z-0", &"x".repeat(64)] {
            assert!(Username::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "a~b", "a b", "ä", "a\0", &"x".repeat(65)] {
            assert!(Username::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_prefix_encloses_the_names_that_begin_so_and_no_others() {
        let prefix = UsernamePrefix::parse("Bo").unwrap();
        let encloses = |key: &str| prefix.as_str() <= key && key < prefix.upper_bound().as_str();
        for inside in ["bo", "bob", "bozzz", "bo_", "bo.1"] {
            assert!(encloses(inside), "{inside}");
        }
        for outside in ["bn", "bp", "b", "~bob", "c"] {
            assert!(!encloses(outside), "{outside}");
        }
    }

    #[test]
    fn the_empty_prefix_encloses_every_name_and_no_deleted_user() {
        let none = UsernamePrefix::default();
        assert!("zzz" < none.upper_bound().as_str());
        assert!("~some-id" >= none.upper_bound().as_str());
    }
}
