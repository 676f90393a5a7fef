//! A message before and after it is sent.

use std::collections::BTreeMap;

use tonic::Status;

/// A message to send.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Draft {
    /// The conversation.
    pub conversation_id: String,
    /// 1 to 16,384 bytes.
    pub text: String,
    /// For use by the application.
    pub attributes: BTreeMap<String, String>,
    /// The sequence of the message that this one replies to, or 0.
    pub reply_to_sequence: i64,
    /// The `request_id`. `None` generates one; set it to retry a message that may have been sent before.
    pub request_id: Option<String>,
}

impl Draft {
    /// Creates a draft of a plain text.
    pub fn text(conversation_id: impl Into<String>, text: impl Into<String>) -> Self {
        Self { conversation_id: conversation_id.into(), text: text.into(), ..Self::default() }
    }
}

/// A stored message.
#[derive(Debug, Clone, PartialEq)]
pub struct Sent {
    /// The conversation.
    pub conversation_id: String,
    /// The message's sequence.
    pub sequence: i64,
    /// The `request_id` of the send.
    pub request_id: String,
    /// The time when it was stored.
    pub create_time: Option<prost_types::Timestamp>,
    /// True if an earlier attempt had stored it.
    pub duplicate: bool,
}

/// The reason why a message is not known to be stored.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SendError {
    /// The service refused the message; it is not stored.
    #[error("refused: {}", .0.message())]
    Refused(Status),
    /// No answer arrived in time. The message may be stored: send it again with the same `request_id` to find out.
    #[error("no answer in time; it may be stored")]
    OutcomeUnknown,
    /// The session ended before the message was sent; it is not stored.
    #[error("the session has ended")]
    Ended,
}
