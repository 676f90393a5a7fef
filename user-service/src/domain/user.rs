//! The user itself, and what can be asked to become of one.

use time::OffsetDateTime;

use super::{DisplayName, Request, UserId, Username};

/// An account as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_field_names, reason = "an id has one name, from the wire to the database")]
pub(crate) struct User {
    pub(crate) user_id: UserId,
    /// None once deleted.
    pub(crate) username: Option<Username>,
    /// Empty once deleted.
    pub(crate) display_name: DisplayName,
    pub(crate) state: State,
    pub(crate) etag: Etag,
    pub(crate) created_at: OffsetDateTime,
    pub(crate) updated_at: OffsetDateTime,
    /// Set exactly when the state is deleted.
    pub(crate) deleted_at: Option<OffsetDateTime>,
}

impl User {
    /// Where the user stands in lists: by name regardless of case, deleted ones behind all names.
    pub(crate) fn list_key(&self) -> String {
        self.username.as_ref().map_or_else(|| format!("~{}", self.user_id), Username::key)
    }
}

/// What a user may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Active,
    Deactivated,
    /// A tombstone, for ever.
    Deleted,
}

impl State {
    /// The word in the database.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Deactivated => "deactivated",
            Self::Deleted => "deleted",
        }
    }

    /// Reads the word in the database.
    pub(crate) fn from_word(word: &str) -> Option<Self> {
        [Self::Active, Self::Deactivated, Self::Deleted].into_iter().find(|state| state.as_str() == word)
    }
}

/// Changes with every change of a user; opaque to callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Etag(i64);

impl Etag {
    /// Versions count from 1, so this is nobody's.
    const OF_NOBODY: Self = Self(0);

    /// Makes the etag of a version, 1 or more.
    pub(crate) fn of_version(version: i64) -> Self {
        Self(version)
    }

    /// Reads what a caller gave back. A text that was never given out is the etag of nobody, hence stale.
    pub(crate) fn read(text: &str) -> Self {
        let version = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).and_then(|text| text.parse().ok());
        // Only the very text that was given out counts, not everything that reads as the same number.
        version.map(Self).filter(|etag| etag.to_text() == text).unwrap_or(Self::OF_NOBODY)
    }

    /// The text for callers, a quoted string as HTTP has it.
    pub(crate) fn to_text(self) -> String {
        format!("\"{}\"", self.0)
    }

    pub(crate) fn version(self) -> i64 {
        self.0
    }
}

/// A user to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewUser {
    pub(crate) user_id: UserId,
    pub(crate) username: Username,
    pub(crate) display_name: DisplayName,
    /// What a retry is recognised by, if the caller gave an id for it.
    pub(crate) request: Option<Request>,
}

/// A change of one user's fields; none of them changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UserChange {
    pub(crate) user_id: UserId,
    pub(crate) username: Option<Username>,
    pub(crate) display_name: Option<DisplayName>,
    /// The etag that the user must still have, if the caller cares.
    pub(crate) expected: Option<Etag>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etag_is_read_back_and_anything_else_is_stale() {
        let etag = Etag::of_version(41);
        assert_eq!(Etag::read(&etag.to_text()), etag);
        for other in ["41", "\"041\"", "\"+41\"", "\"\"", "\"", "W/\"41\"", ""] {
            assert_eq!(Etag::read(other), Etag::OF_NOBODY, "{other}");
        }
    }

    #[test]
    fn states_have_words_of_their_own() {
        for state in [State::Active, State::Deactivated, State::Deleted] {
            assert_eq!(State::from_word(state.as_str()), Some(state));
        }
        assert_eq!(State::from_word("asleep"), None);
    }
}
