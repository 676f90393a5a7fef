//! Entries of the conversation itself: updated.

use serde::Deserialize;
use serde_json::Value;
use service_kit::verify::{Check, Finding};

use super::checks::CHANGES;
use crate::{
    domain::{attributes::Attributes, change::conversation::ConversationChange},
    storage::verify::EntryRow,
};

/// The columns of a conversation; NULL in entries of other kinds.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct Columns {
    title: Option<String>,
    version: Option<i64>,
}

/// The rest, as `changes.detail` holds it.
#[derive(Debug, Default, Deserialize)]
struct Detail {
    description: String,
    avatar_url: String,
    attributes: Attributes,
}

impl Columns {
    /// Returns `None` if anything is missing. Entries from before `changes.detail` existed have none.
    pub(super) fn read(self, detail: Option<Value>) -> Option<ConversationChange> {
        let detail: Detail =
            detail.map_or_else(|| Some(Detail::default()), |value| serde_json::from_value(value).ok())?;
        let Detail { description, avatar_url, attributes } = detail;
        Some(ConversationChange { title: self.title?, description, avatar_url, attributes, version: self.version? })
    }
}

/// Checks that a conversation is as its last update left it.
pub(super) fn check_state(row: &EntryRow) -> Option<(Check, Finding)> {
    let differs = row.is_current_state == Some(false);
    let expected = "the conversation to be as this entry left it";
    let found = "another title, description, avatar_url or attributes";
    differs.then(|| (CHANGES, row.finding(expected, found)))
}
