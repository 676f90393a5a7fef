//! Ids of conversations and users, as types that cannot be mixed up.
//!
//! An id is shared text: batches, events and subscriptions all name the same few conversations and users.

use std::{borrow::Borrow, fmt, ops::Deref, sync::Arc};

use service_kit::bounds::{self, OutOfBounds};
use uuid::Uuid;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(crate) struct $name(Arc<str>);

        impl $name {
            /// Accepts an id from outside, if it is within its bounds.
            pub(crate) fn parse(text: &str) -> Result<Self, OutOfBounds> {
                $check(text).map(|()| Self(text.into()))
            }

            /// Takes an id that was checked before it was stored.
            pub(crate) fn from_storage(text: String) -> Self {
                Self(text.into())
            }

            /// Returns the id as text.
            pub(crate) fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Deref for $name {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        #[cfg(test)]
        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }
    };
}

id! {
    /// Identifies one conversation: 1 to 64 of `A-Z a-z 0-9 . _ ~ -`, case-sensitive. Ids of DIRECT conversations begin
    /// with `~d`.
    ConversationId, bounds::id
}

id! {
    /// Identifies one user: 1 to 64 of `A-Z a-z 0-9 . _ ~ -`, not beginning with `~`, case-sensitive.
    UserId, bounds::own_id
}

impl ConversationId {
    /// Accepts an id that a caller chooses for a new conversation. Ids beginning with `~` are the service's own.
    pub(crate) fn parse_chosen(text: &str) -> Result<Self, OutOfBounds> {
        bounds::own_id(text).map(|()| Self(text.into()))
    }

    /// Makes an id of a `UUIDv7`, so that conversations created later sort later.
    pub(crate) fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid.to_string().into())
    }

    /// Takes the id computed for the one DIRECT conversation of two users.
    pub(super) fn of_direct(text: String) -> Self {
        Self(text.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_conversations_may_have_ids_of_the_service() {
        assert!(ConversationId::parse("~dabc").is_ok());
        assert!(ConversationId::parse_chosen("~dabc").is_err());
        assert!(UserId::parse("~dabc").is_err());
        for text in ["", "a b", &"x".repeat(65)] {
            assert!(ConversationId::parse(text).is_err() && UserId::parse(text).is_err(), "{text:?}");
        }
    }
}
