//! User ids, chosen by the caller or generated.

use std::fmt;

use service_kit::bounds::{self, OutOfBounds};
use uuid::Uuid;

/// Identifies one user for ever. 1 to 64 of `A-Z a-z 0-9 . _ ~ -`, not beginning with `~`; case-sensitive.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct UserId(String);

impl UserId {
    /// Checks the bounds.
    pub(crate) fn parse(text: &str) -> Result<Self, OutOfBounds> {
        bounds::own_id(text).map(|()| Self(text.to_owned()))
    }

    /// Returns the id for a `UUIDv7`: later ids sort later, so they are close together in the index.
    pub(crate) fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid.to_string())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_met_at_the_edge() {
        for good in ["a", "123", "order-1.a_B~", &"x".repeat(64)] {
            assert!(UserId::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "~a", "a b", "a/b", "ä", "a\0", "a\n", &"x".repeat(65)] {
            assert!(UserId::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_generated_id_is_within_the_bounds() {
        let made = UserId::from_uuid(Uuid::now_v7());
        assert_eq!(UserId::parse(made.as_str()), Ok(made));
    }
}
