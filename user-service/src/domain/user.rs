//! Users, and the changes to them.

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
    pub(crate) state: UserState,
    pub(crate) etag: Etag,
    pub(crate) created_at: OffsetDateTime,
    pub(crate) updated_at: OffsetDateTime,
    /// Set exactly when the state is deleted.
    pub(crate) deleted_at: Option<OffsetDateTime>,
    /// Tokens of the user that were issued before are void.
    pub(crate) tokens_valid_after: Option<OffsetDateTime>,
}

impl User {
    /// The key by which lists are ordered: by name regardless of case, deleted users after all names.
    pub(crate) fn list_key(&self) -> String {
        self.username.as_ref().map_or_else(|| format!("~{}", self.user_id), Username::key)
    }
}

/// The state of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UserState {
    Active,
    Deactivated,
    /// A tombstone. This state is final.
    Deleted,
}

impl UserState {
    /// The word for it in the database.
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
    /// Matches no user, since versions count from 1.
    const STALE: Self = Self(0);

    /// Returns the etag of a version, 1 or more.
    pub(crate) fn of_version(version: i64) -> Self {
        Self(version)
    }

    /// Reads the etag of a request. A text that was never issued is stale.
    pub(crate) fn read(text: &str) -> Self {
        let version = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).and_then(|text| text.parse().ok());
        // Only the exact text that was issued counts, not every text that parses as the same number.
        version.map(Self).filter(|etag| etag.to_text() == text).unwrap_or(Self::STALE)
    }

    /// Returns the text for callers, a quoted string as in HTTP.
    pub(crate) fn to_text(self) -> String {
        format!("\"{}\"", self.0)
    }

    pub(crate) fn version(self) -> i64 {
        self.0
    }
}

/// A user to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewUser {
    pub(crate) user_id: UserId,
    pub(crate) username: Username,
    pub(crate) display_name: DisplayName,
    /// Identifies retries, if the caller sent a request id.
    pub(crate) request: Option<Request>,
}

/// A change of one user's fields. A field that is `None` stays as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UserChange {
    pub(crate) user_id: UserId,
    pub(crate) username: Option<Username>,
    pub(crate) display_name: Option<DisplayName>,
    /// The etag that the user must still have, if the caller sent one.
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
            assert_eq!(Etag::read(other), Etag::STALE, "{other}");
        }
    }

    #[test]
    fn every_state_has_its_word() {
        for state in [UserState::Active, UserState::Deactivated, UserState::Deleted] {
            assert_eq!(UserState::from_word(state.as_str()), Some(state));
        }
        assert_eq!(UserState::from_word("asleep"), None);
    }
}
