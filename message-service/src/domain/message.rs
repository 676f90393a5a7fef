//! Messages and the bounds of their contents.

use std::collections::BTreeMap;

use service_kit::bounds::{OutOfBounds, no_nul};
use time::OffsetDateTime;

use super::conversation::Id;

/// The application's own data on a message, in the order of the keys.
pub(crate) type Attributes = BTreeMap<String, String>;

/// The longest text, in bytes of UTF-8.
pub(crate) const MAX_TEXT_BYTES: usize = 16_384;
const MAX_ATTRIBUTES: usize = 16;
const MAX_ATTRIBUTE_KEY_BYTES: usize = 64;
const MAX_ATTRIBUTES_BYTES: usize = 4096;

/// A message as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) conversation_id: Id,
    pub(crate) sequence: i64,
    pub(crate) ordinal: i64,
    pub(crate) sender_id: Id,
    pub(crate) request_id: String,
    /// Empty once deleted.
    pub(crate) text: String,
    pub(crate) attributes: Attributes,
    /// 0 = none.
    pub(crate) reply_to_sequence: i64,
    pub(crate) created_at: OffsetDateTime,
    pub(crate) edited_at: Option<OffsetDateTime>,
    pub(crate) deleted_at: Option<OffsetDateTime>,
    pub(crate) change_sequence: i64,
}

/// Text of a message: 1 to 16,384 bytes, not only white space, no U+0000.
pub(crate) fn check_text(text: &str) -> Result<(), OutOfBounds> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(OutOfBounds("must be at most 16384 bytes of UTF-8"));
    }
    if text.chars().all(char::is_whitespace) {
        return Err(OutOfBounds("must not be empty or only white space"));
    }
    no_nul(text)
}

/// Attributes of a message: at most 16, keys of 1 to 64 bytes, keys and values together at most 4 KiB, no U+0000.
pub(crate) fn check_attributes(attributes: &Attributes) -> Result<(), OutOfBounds> {
    if attributes.len() > MAX_ATTRIBUTES {
        return Err(OutOfBounds("must have at most 16 entries"));
    }
    if attributes.keys().any(|key| key.is_empty() || key.len() > MAX_ATTRIBUTE_KEY_BYTES) {
        return Err(OutOfBounds("must have keys of 1 to 64 bytes"));
    }
    let bytes: usize = attributes.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > MAX_ATTRIBUTES_BYTES {
        return Err(OutOfBounds("must be at most 4096 bytes, keys and values together"));
    }
    attributes.iter().try_for_each(|(key, value)| no_nul(key).and_then(|()| no_nul(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_held_to_its_bounds() {
        assert!(check_text(&"x".repeat(MAX_TEXT_BYTES)).is_ok());
        assert!(check_text(&"x".repeat(MAX_TEXT_BYTES + 1)).is_err());
        // Two bytes each: the bound is of bytes, not of characters.
        assert!(check_text(&"é".repeat(MAX_TEXT_BYTES / 2)).is_ok());
        assert!(check_text(&"é".repeat(MAX_TEXT_BYTES / 2 + 1)).is_err());
        for blank in ["", " ", "\n\t", "\u{2003}\u{3000}", "\u{85}"] {
            assert!(check_text(blank).is_err(), "{blank:?}");
        }
        assert!(check_text("a\0b").is_err());
    }

    #[test]
    fn attributes_are_held_to_their_bounds() {
        let entries = |count: usize| (0..count).map(|n| (format!("k{n}"), String::new())).collect::<Attributes>();
        let one = |key: &str, value: &str| Attributes::from([(key.to_owned(), value.to_owned())]);
        assert!(check_attributes(&entries(16)).is_ok());
        assert!(check_attributes(&entries(17)).is_err());
        assert!(check_attributes(&one(&"k".repeat(64), "")).is_ok());
        assert!(check_attributes(&one(&"k".repeat(65), "")).is_err());
        assert!(check_attributes(&one("", "v")).is_err());
        assert!(check_attributes(&one("k", &"v".repeat(4095))).is_ok());
        assert!(check_attributes(&one("k", &"v".repeat(4096))).is_err());
        assert!(check_attributes(&one("k", "\0")).is_err());
    }
}
