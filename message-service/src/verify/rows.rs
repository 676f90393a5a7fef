//! Rows that can be judged one by one: members, the outbox, requests.

use service_kit::verify::{Finding, Report};

use super::{MARKS, MEMBERS, ORPHANS, OUTBOX};
use crate::storage::verify::{MemberRow, OutboxRow, RequestRow};

/// A member against its conversation, the entry by which it joined, and the messages up to its read mark.
pub(super) fn member(row: &MemberRow, report: &mut Report) {
    let at = |finding: Finding| finding.at("conversation_id", &*row.conversation_id).at("user_id", &*row.user_id);
    let (Some(last), Some(oldest)) = (row.last_sequence, row.oldest_sequence) else {
        return report.found(ORPHANS, at(Finding::new("a conversation", "a member only")));
    };
    // What is before the oldest entry is not kept, and cannot be compared with.
    if row.join_sequence >= oldest && row.joined_user_id.as_deref() != Some(&row.user_id) {
        let found = match &row.joined_user_id {
            Some(other) => format!("one by which {other} joined"),
            None => "none".to_owned(),
        };
        let expected = format!("an entry {} by which the user joined", row.join_sequence);
        report.found(MEMBERS, at(Finding::new(expected, found)));
    }
    if row.last_read_sequence > last {
        let expected = format!("last_read_sequence up to the last one, {last}");
        report.found(MARKS, at(Finding::new(expected, row.last_read_sequence)));
    } else if row.ordinal_at_mark.is_some() || oldest == 1 {
        let count = row.ordinal_at_mark.unwrap_or(0);
        if row.last_read_ordinal != count {
            let expected = format!("last_read_ordinal {count} at last_read_sequence {}", row.last_read_sequence);
            report.found(MARKS, at(Finding::new(expected, row.last_read_ordinal)));
        }
    }
}

/// What the outbox says of a conversation.
pub(super) fn outbox(row: &OutboxRow, report: &mut Report) {
    let (Some(id), Some(head)) = (&row.conversation_id, row.head) else { return };
    let at = |finding: Finding| finding.at("conversation_id", &**id).at("outbox_id", row.outbox_id);
    match row.last_sequence {
        None => report.found(OUTBOX, at(Finding::new("a conversation", "a row of the outbox only"))),
        Some(last) if head > last => {
            report.found(OUTBOX, at(Finding::new(format!("a head up to last_sequence, {last}"), head)));
        }
        Some(_) => {}
    }
}

/// A request that made a conversation.
pub(super) fn request(row: &RequestRow, report: &mut Report) {
    if row.is_orphan {
        let finding =
            Finding::new("a conversation", format!("the request {} of {} only", row.request_id, row.creator_id));
        report.found(ORPHANS, finding.at("conversation_id", &*row.conversation_id));
    }
}
