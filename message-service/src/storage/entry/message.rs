//! Entries of messages: sent, edited, deleted. Each shows the message as it is now.

use service_kit::verify::{Check, Finding};
use sqlx::types::Json;
use time::OffsetDateTime;

use super::checks::{CHANGES, REFERENCES};
use crate::{
    domain::{
        attributes::Attributes,
        change::EntryKind,
        ids::{ConversationId, UserId},
        message::Message,
        sequence::Sequence,
    },
    storage::verify::EntryRow,
};

/// The columns of a message; NULL in entries of other kinds.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct Columns {
    message_sequence: Option<i64>,
    ordinal: Option<i64>,
    sender_id: Option<String>,
    request_id: Option<String>,
    text: Option<String>,
    attributes: Option<Json<Attributes>>,
    reply_to_sequence: Option<i64>,
    message_created_at: Option<OffsetDateTime>,
    edited_at: Option<OffsetDateTime>,
    deleted_at: Option<OffsetDateTime>,
    change_sequence: Option<i64>,
}

impl Columns {
    /// Returns `None` if a column is missing.
    pub(super) fn read(self, conversation_id: &ConversationId) -> Option<Message> {
        Some(Message {
            conversation_id: conversation_id.clone(),
            sequence: Sequence::new(self.message_sequence?)?,
            ordinal: self.ordinal?,
            sender_id: UserId::from_storage(self.sender_id?),
            request_id: self.request_id?,
            text: self.text?,
            attributes: self.attributes.map(|Json(attributes)| attributes).unwrap_or_default(),
            reply_to_sequence: self.reply_to_sequence.and_then(Sequence::new),
            created_at: self.message_created_at?,
            edited_at: self.edited_at,
            deleted_at: self.deleted_at,
            change_sequence: Sequence::new(self.change_sequence?)?,
        })
    }
}

/// Checks that a reply names an earlier message.
pub(super) fn check_reply(row: &EntryRow, oldest: i64) -> Option<(Check, Finding)> {
    let to = row.reply_to_sequence.filter(|to| *to >= oldest)?;
    let is_broken = to >= row.sequence || row.reply_is_message != Some(true);
    let finding = || row.finding(format!("reply_to_sequence {to} to refer to an earlier message"), "no such message");
    is_broken.then(|| (REFERENCES, finding()))
}

/// Checks that a message is as the entry left it that changed it last.
pub(super) fn check_last_change(row: &EntryRow) -> Option<(Check, Finding)> {
    let changed_by = row.change_sequence.unwrap_or_default();
    let (is_edited, is_deleted) = (row.is_edited == Some(true), row.is_deleted == Some(true));
    let says_deleted = row.changed_by_kind == Some(EntryKind::MessageDeleted.number());
    let finding = if changed_by == row.sequence {
        if !is_edited && !is_deleted {
            return None;
        }
        let found = if is_deleted { "a deleted message without one" } else { "an edited message without one" };
        row.finding("change_sequence of the entry that changed it", found)
    } else if row.changed_by_target != Some(row.sequence) {
        let expected = format!("entry {changed_by}, its change_sequence, to be its edit or deletion");
        row.finding(expected, "no such entry")
    } else if says_deleted != is_deleted || (!is_deleted && !is_edited) {
        let expected = if says_deleted { "a deleted message" } else { "an edited message" };
        let found = match (is_deleted, is_edited) {
            (true, _) => "a deleted message",
            (false, true) => "a message that is not deleted",
            (false, false) => "an unchanged message",
        };
        row.finding(format!("{expected}, the result of entry {changed_by}"), found)
    } else {
        return None;
    };
    Some((CHANGES, finding))
}

/// Checks that an edit or a deletion names a message, and that this message was not changed last by an earlier entry.
pub(super) fn check_target(row: &EntryRow, oldest: i64) -> Option<(Check, Finding)> {
    let target = row.target_sequence.unwrap_or_default();
    match row.target_change_sequence {
        None if target >= oldest => {
            Some((REFERENCES, row.finding(format!("its target {target} to be a message"), "no such message")))
        }
        Some(last) if last < row.sequence => {
            let expected = format!("change_sequence of message {target} to be this entry or a later one");
            Some((CHANGES, row.finding(expected, format!("change_sequence {last}"))))
        }
        _ => None,
    }
}
