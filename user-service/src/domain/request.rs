//! Request ids and content hashes, which make retries harmless.

use service_kit::bounds::{self, OutOfBounds};
use sha2::{Digest, Sha256};

use super::{DisplayName, UserId, Username};

/// Identifies one request for ever, over all callers. 1 to 64 printable ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestId(String);

impl RequestId {
    /// Checks the bounds.
    pub(crate) fn parse(text: &str) -> Result<Self, OutOfBounds> {
        bounds::request_id(text).map(|()| Self(text.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// A hash of 16 bytes over the content of a request; equal only for the same content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ContentHash([u8; 16]);

impl ContentHash {
    /// Hashes the request, not its result: an id that the service generates is not part of it.
    pub(crate) fn of(user_id: Option<&UserId>, username: &Username, display_name: &DisplayName) -> Self {
        let mut hash = Sha256::new();
        for part in [user_id.map_or("", UserId::as_str), username.as_str(), display_name.as_str()] {
            // Lengths first, so that no two contents have the same bytes.
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let mut first = [0; 16];
        first.copy_from_slice(&hash.finalize()[..16]);
        Self(first)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A request whose retries can be recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    /// The id from the caller.
    pub(crate) request_id: RequestId,
    /// The hash of its content.
    pub(crate) content: ContentHash,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_met_at_the_edge() {
        for good in [" ", "~", "0195e3f1-0000-7000-8000-000000000000", &"x".repeat(64)] {
            assert!(RequestId::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "a\0", "a\u{7f}", "é", &"x".repeat(65)] {
            assert!(RequestId::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn every_field_counts_and_none_runs_into_the_next() {
        let hash = |id: Option<&str>, name: &str, display: &str| {
            let id = id.map(|id| UserId::parse(id).unwrap());
            ContentHash::of(id.as_ref(), &Username::parse(name).unwrap(), &DisplayName::parse(display).unwrap())
        };
        let all = [hash(None, "ab", "c"), hash(Some("a"), "b", "c"), hash(None, "a", "bc"), hash(None, "Ab", "c")];
        for (at, one) in all.iter().enumerate() {
            assert!(all[at + 1..].iter().all(|other| one != other));
        }
        assert_eq!(hash(None, "ab", "c"), all[0]);
    }
}
