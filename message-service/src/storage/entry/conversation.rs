//! Entries of the conversation itself: updated.

use crate::domain::change::conversation::ConversationChange;

/// The columns of a conversation; NULL in entries of other kinds.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct Columns {
    title: Option<String>,
    version: Option<i64>,
}

impl Columns {
    /// Returns `None` if a column is missing.
    pub(super) fn read(self) -> Option<ConversationChange> {
        Some(ConversationChange { title: self.title?, version: self.version? })
    }
}
