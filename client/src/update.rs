//! The updates that a session delivers to the application.

use std::time::Duration;

use parlance::message::v1::Event;
use tonic::Status;

/// An update of a session. Updates are delivered in order.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "nearly all of them are events")]
pub enum Update {
    /// The next entry of a conversation, each once and without a gap; or, with sequence 0, an ephemeral.
    Event(Event),
    /// All entries of this conversation up to its head have been delivered.
    CaughtUp {
        /// The conversation.
        conversation_id: String,
        /// The head.
        sequence: i64,
    },
    /// All conversations have caught up. Repeated after every reconnect.
    AllCaughtUp,
    /// Entries before `oldest_sequence` are no longer kept.
    Truncated {
        /// The conversation.
        conversation_id: String,
        /// The sequence of the oldest entry kept.
        oldest_sequence: i64,
    },
    /// The conversation has ended for this user; no more updates of it follow, unless the user joins it again.
    Closed {
        /// The conversation.
        conversation_id: String,
        /// The reason.
        status: Status,
    },
    /// The session is connected.
    Connected,
    /// All positions are of this epoch of the log from here on; keep it with [`Session::cursors`](crate::Session::cursors).
    /// Comes with the first connection, and again when the database was replaced; conversations of which entries were lost
    /// are closed before.
    Epoch(String),
    /// The session has lost its connection and will reconnect.
    Disconnected {
        /// The reason.
        cause: Status,
        /// The delay before the next attempt.
        retry_in: Duration,
    },
    /// The session has ended permanently: the user may not act, or the request can never succeed. The last update.
    Ended(Status),
}
