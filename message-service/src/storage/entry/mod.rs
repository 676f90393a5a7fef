//! The entries of a log, one file for each noun: reads a stored entry as an event, and checks that the rows it refers to
//! are as it says.
//!
//! A new kind is a function in one of these files or a new one, and one line in each match below.

pub(crate) mod checks;
mod conversation;
mod member;
mod message;

use serde_json::Value;
use service_kit::verify::{Check, Finding};
use sqlx::types::Json;
use time::OffsetDateTime;

use super::{Error, sequence, verify};
use crate::domain::{
    change::EntryKind,
    event::{Event, EventKind},
    ids::{ConversationId, UserId},
};

/// An entry of any kind. All columns are NULL where a log has no entries.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct EntryRow {
    sequence: Option<i64>,
    kind: Option<i16>,
    actor_id: Option<String>,
    created_at: Option<OffsetDateTime>,
    /// The contents of a kind that has no columns for them.
    detail: Option<Json<Value>>,
    #[sqlx(flatten)]
    message: message::Columns,
    #[sqlx(flatten)]
    member: member::Columns,
    #[sqlx(flatten)]
    conversation: conversation::Columns,
}

impl EntryRow {
    /// Returns the entry, if there is one.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for an unknown kind, and for a row that lacks what its kind needs.
    pub(super) fn into_event(self, conversation_id: &ConversationId) -> Result<Option<Event>, Error> {
        let Some(number) = self.sequence else { return Ok(None) };
        let incomplete = || Error::Corrupt(format!("entry {number} of conversation {conversation_id} is incomplete"));
        let kind = self.kind.ok_or_else(incomplete)?;
        let kind = EntryKind::from_number(kind).ok_or_else(|| {
            Error::Corrupt(format!("entry {number} of conversation {conversation_id} is of the unknown kind {kind}"))
        })?;
        let detail = self.detail.map(|Json(detail)| detail);
        let contents = match kind {
            EntryKind::MessageSent => self.message.read(conversation_id).map(EventKind::MessageSent),
            EntryKind::MessageEdited => self.message.read(conversation_id).map(EventKind::MessageEdited),
            EntryKind::MessageDeleted => self.message.read(conversation_id).map(EventKind::MessageDeleted),
            EntryKind::MemberJoined => self.member.read().map(EventKind::MemberJoined),
            EntryKind::MemberLeft => self.member.read().map(EventKind::MemberLeft),
            EntryKind::MemberUpdated => self.member.read().map(EventKind::MemberUpdated),
            EntryKind::ConversationUpdated => self.conversation.read(detail).map(EventKind::ConversationUpdated),
        };
        Ok(Some(Event {
            conversation_id: conversation_id.clone(),
            sequence: sequence(number, "the sequence of an entry")?,
            created_at: self.created_at.ok_or_else(incomplete)?,
            actor_id: UserId::from_storage(self.actor_id.ok_or_else(incomplete)?),
            kind: contents.ok_or_else(incomplete)?,
        }))
    }
}

/// Checks the rows that an entry refers to, and returns what is wrong. Entries before `oldest` are not kept.
pub(crate) fn check(row: &verify::EntryRow, oldest: i64) -> Vec<(Check, Finding)> {
    let Some(kind) = EntryKind::from_number(row.kind) else { return Vec::new() };
    let found = match kind {
        EntryKind::MessageSent => [message::check_reply(row, oldest), message::check_last_change(row)],
        EntryKind::MessageEdited | EntryKind::MessageDeleted => [message::check_target(row, oldest), None],
        EntryKind::MemberLeft => [member::check_left(row), None],
        EntryKind::MemberJoined | EntryKind::MemberUpdated => [None, None],
        EntryKind::ConversationUpdated => [conversation::check_state(row), None],
    };
    found.into_iter().flatten().collect()
}
