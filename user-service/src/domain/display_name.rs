//! Display names: free text for people.

use service_kit::bounds::{self, OutOfBounds};

/// The name of a user on a screen. At most 256 code points, possibly none, without U+0000, which PostgreSQL cannot store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct DisplayName(String);

impl DisplayName {
    /// Checks the bounds.
    pub(crate) fn parse(text: &str) -> Result<Self, OutOfBounds> {
        bounds::title(text).map(|()| Self(text.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn into_string(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_points_are_counted_not_bytes() {
        assert!(DisplayName::parse("").is_ok());
        assert!(DisplayName::parse(&"😀".repeat(256)).is_ok());
        assert!(DisplayName::parse(&"😀".repeat(257)).is_err());
        assert!(DisplayName::parse(&"a".repeat(257)).is_err());
        assert!(DisplayName::parse("a\0b").is_err());
    }
}
