//! The application's own data on a message or a conversation, and its bounds.

use std::collections::BTreeMap;

use service_kit::bounds::{OutOfBounds, no_nul};

/// The application's own data, in the order of the keys.
pub(crate) type Attributes = BTreeMap<String, String>;

const MAX_ENTRIES: usize = 16;
const MAX_KEY_BYTES: usize = 64;
const MAX_BYTES: usize = 4096;

/// Returns the size of attributes, keys and values together, in bytes.
pub(crate) fn attributes_bytes(attributes: &Attributes) -> usize {
    attributes.iter().map(|(key, value)| key.len() + value.len()).sum()
}

/// Checks the bounds of attributes: at most 16, keys of 1 to 64 bytes, keys and values together at most 4 KiB, no U+0000.
pub(crate) fn check_attributes(attributes: &Attributes) -> Result<(), OutOfBounds> {
    if attributes.len() > MAX_ENTRIES {
        return Err(OutOfBounds("must have at most 16 entries"));
    }
    if attributes.keys().any(|key| key.is_empty() || key.len() > MAX_KEY_BYTES) {
        return Err(OutOfBounds("must have keys of 1 to 64 bytes"));
    }
    if attributes_bytes(attributes) > MAX_BYTES {
        return Err(OutOfBounds("must be at most 4096 bytes, keys and values together"));
    }
    attributes.iter().try_for_each(|(key, value)| no_nul(key).and_then(|()| no_nul(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

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
