//! Messages and the bounds of their contents.

use service_kit::bounds::{OutOfBounds, no_nul};
use time::OffsetDateTime;

use super::{
    attributes::{Attributes, attributes_bytes},
    ids::{ConversationId, UserId},
    request::RequestHash,
    sequence::Sequence,
};

/// The longest text, in bytes of UTF-8.
pub(crate) const MAX_TEXT_BYTES: usize = 16_384;

/// A message as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) conversation_id: ConversationId,
    pub(crate) sequence: Sequence,
    pub(crate) ordinal: i64,
    pub(crate) sender_id: UserId,
    pub(crate) request_id: String,
    /// Empty once deleted.
    pub(crate) text: String,
    pub(crate) attributes: Attributes,
    /// The message that this one answers.
    pub(crate) reply_to_sequence: Option<Sequence>,
    pub(crate) created_at: OffsetDateTime,
    pub(crate) edited_at: Option<OffsetDateTime>,
    pub(crate) deleted_at: Option<OffsetDateTime>,
    pub(crate) change_sequence: Sequence,
}

/// A message to store.
#[derive(Debug, Clone)]
pub(crate) struct NewMessage {
    pub(crate) conversation_id: ConversationId,
    pub(crate) sender_id: UserId,
    pub(crate) request_id: String,
    pub(crate) request_hash: RequestHash,
    pub(crate) text: String,
    pub(crate) attributes: Attributes,
    /// The message that this one answers.
    pub(crate) reply_to_sequence: Option<Sequence>,
}

/// The numbers and the time that a message got when it was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StoredAt {
    pub(crate) sequence: Sequence,
    pub(crate) ordinal: i64,
    pub(crate) created_at: OffsetDateTime,
}

impl NewMessage {
    /// Returns the size of its content, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.text.len() + attributes_bytes(&self.attributes)
    }

    /// Returns the message as it is right after it was stored.
    pub(crate) fn into_message(self, stored: &StoredAt) -> Message {
        Message {
            conversation_id: self.conversation_id,
            sequence: stored.sequence,
            ordinal: stored.ordinal,
            sender_id: self.sender_id,
            request_id: self.request_id,
            text: self.text,
            attributes: self.attributes,
            reply_to_sequence: self.reply_to_sequence,
            created_at: stored.created_at,
            edited_at: None,
            deleted_at: None,
            change_sequence: stored.sequence,
        }
    }
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
}
