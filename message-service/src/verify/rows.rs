//! Checks of single rows: members, the outbox, requests.

use service_kit::verify::{Finding, Report};

use super::checks::{MARKS, MEMBERS, ORPHANS, OUTBOX};
use crate::storage::verify::{MemberRow, OutboxRow, RequestRow};

/// Compares a member with its conversation, its join entry, and the messages up to its read mark.
pub(super) fn member(row: &MemberRow, report: &mut Report) {
    let at = |finding: Finding| finding.at("conversation_id", &*row.conversation_id).at("user_id", &*row.user_id);
    let (Some(last), Some(oldest)) = (row.last_sequence, row.oldest_sequence) else {
        return report.found(ORPHANS, at(Finding::new("a conversation", "no conversation, but a member")));
    };
    // Entries before the oldest one are deleted and cannot be compared.
    if row.join_sequence >= oldest && row.joined_user_id.as_deref() != Some(&row.user_id) {
        let found = match &row.joined_user_id {
            Some(other) => format!("the join of {other}"),
            None => "none".to_owned(),
        };
        let expected = format!("the join of the user as entry {}", row.join_sequence);
        report.found(MEMBERS, at(Finding::new(expected, found)));
    }
    if row.last_read_sequence > last {
        let expected = format!("last_read_sequence up to last_sequence {last}");
        report.found(MARKS, at(Finding::new(expected, row.last_read_sequence)));
    } else if row.ordinal_at_mark.is_some() || oldest == 1 {
        let count = row.ordinal_at_mark.unwrap_or(0);
        if row.last_read_ordinal != count {
            let expected = format!("last_read_ordinal {count} at last_read_sequence {}", row.last_read_sequence);
            report.found(MARKS, at(Finding::new(expected, row.last_read_ordinal)));
        }
    }
}

/// Compares a head in the outbox with its conversation.
pub(super) fn outbox(row: &OutboxRow, report: &mut Report) {
    let (Some(id), Some(head)) = (&row.conversation_id, row.head) else { return };
    let at = |finding: Finding| finding.at("conversation_id", &**id).at("outbox_id", row.outbox_id);
    match row.last_sequence {
        None => report.found(OUTBOX, at(Finding::new("a conversation", "no conversation, but a row of the outbox"))),
        Some(last) if head > last => {
            report.found(OUTBOX, at(Finding::new(format!("a head up to last_sequence {last}"), head)));
        }
        Some(_) => {}
    }
}

/// Checks that the conversation of a request exists.
pub(super) fn request(row: &RequestRow, report: &mut Report) {
    if row.is_orphan {
        let finding = Finding::new(
            "a conversation",
            format!("no conversation, but the request {} of {}", row.request_id, row.creator_id),
        );
        report.found(ORPHANS, finding.at("conversation_id", &*row.conversation_id));
    }
}
