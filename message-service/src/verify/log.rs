//! Checks all logs, entry by entry. From one slice to the next it keeps only values that never change once committed: the
//! sequence, the ordinal and the time of entries.

use service_kit::verify::{Finding, Report};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{CHANGES, COUNTERS, DOUBLES, HOLES, MEMBERS, ORDINALS, ORPHANS, REFERENCES, TIMES};
use crate::storage::verify::{ConversationRow, EntryRow, Slice};

/// `conversations.kind` of a DIRECT conversation, which has exactly two members.
const DIRECT: i16 = 1;

/// `changes.kind`; 0 for messages.
const MESSAGE: i16 = 0;
const EDITED: i16 = 1;
const DELETED: i16 = 2;
const LEFT: i16 = 4;
const RENAMED: i16 = 6;

/// The position of the check between two slices.
#[derive(Debug, Default)]
pub(super) struct LogChecker {
    /// The conversation whose entries are being read.
    current: Option<LogState>,
}

/// The part of a conversation's log that was checked so far.
#[derive(Debug)]
struct LogState {
    id: String,
    /// As in the snapshot of the slice; `None` if the conversation does not exist.
    row: Option<ConversationRow>,
    entries: u64,
    last: Option<(i64, OffsetDateTime)>,
    last_message: Option<(i64, i64, OffsetDateTime)>,
    /// The number of missing sequences after the last message.
    missing: i64,
    /// The version in the last change of the title.
    version: Option<i64>,
}

impl LogChecker {
    /// Checks a slice. Returns the number of conversations that ended in it.
    pub(super) fn check(&mut self, slice: Slice, report: &mut Report) -> usize {
        let mut finished = 0;
        let mut conversations = slice.conversations.into_iter().peekable();
        if let Some(log) = &mut self.current {
            log.row = conversations.next_if(|row| row.conversation_id == log.id);
        }
        for entry in slice.entries {
            if self.current.as_ref().is_none_or(|log| log.id != entry.conversation_id) {
                finished += self.finish_current(report);
                while let Some(row) = conversations.next_if(|row| row.conversation_id < entry.conversation_id) {
                    LogState::of(row).finish(report);
                    finished += 1;
                }
                let row = conversations.next_if(|row| row.conversation_id == entry.conversation_id);
                self.current = Some(row.map_or_else(|| LogState::without_row(&entry.conversation_id), LogState::of));
            }
            if let Some(log) = &mut self.current {
                log.check(&entry, report);
            }
        }
        if !slice.is_cut {
            finished += self.finish_current(report);
            for row in conversations {
                LogState::of(row).finish(report);
                finished += 1;
            }
        }
        finished
    }

    fn finish_current(&mut self, report: &mut Report) -> usize {
        let Some(log) = self.current.take() else { return 0 };
        let is_conversation = log.row.is_some();
        log.finish(report);
        usize::from(is_conversation)
    }
}

impl LogState {
    fn of(row: ConversationRow) -> Self {
        let log = Self::without_row(&row.conversation_id);
        Self { row: Some(row), ..log }
    }

    fn without_row(id: &str) -> Self {
        Self { id: id.to_owned(), row: None, entries: 0, last: None, last_message: None, missing: 0, version: None }
    }

    fn at(&self, finding: Finding) -> Finding {
        finding.at("conversation_id", &*self.id)
    }

    fn check(&mut self, entry: &EntryRow, report: &mut Report) {
        self.entries += 1;
        let Some(oldest) = self.row.as_ref().map(|row| row.oldest_sequence) else {
            // Reported once, when the log ends.
            self.last = Some((entry.sequence, entry.created_at));
            return;
        };
        let at = |finding: Finding| self.at(finding).at("sequence", entry.sequence);
        if entry.sequence < oldest {
            report.found(COUNTERS, at(Finding::new(format!("no entry before oldest_sequence {oldest}"), "an entry")));
        }
        let expected = self.last.map_or(oldest, |(last, _)| (last + 1).max(oldest));
        if self.last.is_some_and(|(last, _)| last == entry.sequence) {
            report.found(DOUBLES, at(Finding::new("one entry", "a message and a change")));
        } else if entry.sequence > expected {
            self.missing += entry.sequence - expected;
            report.found(HOLES, self.hole(expected, entry.sequence - 1));
        }
        let at = |finding: Finding| self.at(finding).at("sequence", entry.sequence);
        if let Some((_, before)) = self.last.filter(|(_, before)| entry.created_at < *before) {
            let expected = format!("a time not before that of the previous entry, {}", clock(before));
            report.found(TIMES, at(Finding::new(expected, clock(entry.created_at))));
        }
        match entry.kind {
            MESSAGE => self.check_message(entry, oldest, report),
            EDITED | DELETED => self.check_change_of_message(entry, oldest, report),
            // A user who came back has a later join.
            LEFT if entry.member_join_sequence.is_some_and(|joined| joined < entry.sequence) => {
                let user = entry.user_id.as_deref().unwrap_or_default();
                let finding =
                    Finding::new("a former member, or one who joined again later", "a member who joined before");
                report.found(MEMBERS, at(finding).at("user_id", user));
            }
            _ => {}
        }
        if entry.kind == RENAMED {
            self.version = entry.version;
        }
        self.last = Some((entry.sequence, entry.created_at));
    }

    fn check_message(&mut self, entry: &EntryRow, oldest: i64, report: &mut Report) {
        let at = |finding: Finding| self.at(finding).at("sequence", entry.sequence);
        let ordinal = entry.ordinal.unwrap_or_default();
        // Each missing sequence may have been a message.
        let least = match self.last_message {
            Some((_, before, _)) => Some(before + 1),
            None if oldest == 1 => Some(1),
            None => None,
        };
        if let Some(least) = least
            && !(least..=least + self.missing).contains(&ordinal)
        {
            let or_more = if self.missing > 0 { format!(" to {}", least + self.missing) } else { String::new() };
            report.found(ORDINALS, at(Finding::new(format!("ordinal {least}{or_more}"), ordinal)));
        }

        let answered = entry.reply_to_sequence.filter(|to| *to >= oldest);
        if let Some(to) = answered.filter(|to| *to >= entry.sequence || entry.reply_is_message != Some(true)) {
            let expected = format!("reply_to_sequence {to} to refer to an earlier message");
            report.found(REFERENCES, at(Finding::new(expected, "no such message")));
        }

        let changed_by = entry.change_sequence.unwrap_or_default();
        let (is_edited, is_deleted) = (entry.is_edited == Some(true), entry.is_deleted == Some(true));
        if changed_by == entry.sequence {
            if is_edited || is_deleted {
                let found = if is_deleted { "a deleted message" } else { "an edited message" };
                let found = format!("{found} without one");
                report.found(CHANGES, at(Finding::new("change_sequence of the entry that changed it", found)));
            }
        } else if entry.changed_by_target != Some(entry.sequence) {
            let expected = format!("entry {changed_by}, its change_sequence, to be its edit or deletion");
            report.found(CHANGES, at(Finding::new(expected, "no such entry")));
        } else if (entry.changed_by_kind == Some(DELETED)) != is_deleted || (!is_deleted && !is_edited) {
            let expected =
                if entry.changed_by_kind == Some(DELETED) { "a deleted message" } else { "an edited message" };
            let found = match (is_deleted, is_edited) {
                (true, _) => "a deleted message",
                (false, true) => "a message that is not deleted",
                (false, false) => "an unchanged message",
            };
            report.found(CHANGES, at(Finding::new(format!("{expected}, the result of entry {changed_by}"), found)));
        }
        self.last_message = Some((entry.sequence, ordinal, entry.created_at));
        self.missing = 0;
    }

    fn check_change_of_message(&self, entry: &EntryRow, oldest: i64, report: &mut Report) {
        let at = |finding: Finding| self.at(finding).at("sequence", entry.sequence);
        let target = entry.target_sequence.unwrap_or_default();
        match entry.target_change_sequence {
            None if target >= oldest => {
                let expected = format!("its target {target} to be a message");
                report.found(REFERENCES, at(Finding::new(expected, "no such message")));
            }
            Some(last) if last < entry.sequence => {
                let expected = format!("change_sequence of message {target} to be this entry or a later one");
                report.found(CHANGES, at(Finding::new(expected, format!("change_sequence {last}"))));
            }
            _ => {}
        }
    }

    fn finish(self, report: &mut Report) {
        let Some(row) = &self.row else {
            let last = self.last.map_or(0, |(last, _)| last);
            let found = format!("no conversation, but {} entries, the last with sequence {last}", self.entries);
            return report.found(ORPHANS, self.at(Finding::new("a conversation", found)));
        };
        let end = self.last.map_or(row.oldest_sequence - 1, |(last, _)| last);
        let missing_at_end = (row.last_sequence - end).max(0);
        if missing_at_end > 0 {
            report.found(HOLES, self.hole(end + 1, row.last_sequence));
        } else if end > row.last_sequence {
            let expected = format!("last_sequence {end}, that of the last entry");
            report.found(COUNTERS, self.at(Finding::new(expected, row.last_sequence)));
        }
        self.compare_counters(row, self.missing + missing_at_end, missing_at_end, report);
        self.compare_members(row, report);
    }

    /// `missing` counts the sequences after the last message that have no entry; some may have been messages.
    fn compare_counters(&self, row: &ConversationRow, missing: i64, missing_at_end: i64, report: &mut Report) {
        let mut differs = |expected: String, found: String| {
            report.found(COUNTERS, self.at(Finding::new(expected, found)));
        };
        // Without any message in a log whose front was deleted, their number is unknown.
        let counted = self.last_message.map(|(_, ordinal, _)| ordinal).or((row.oldest_sequence == 1).then_some(0));
        if let Some(counted) = counted
            && !(counted..=counted + missing).contains(&row.message_count)
        {
            differs(format!("message_count {counted}, the ordinal of the last message"), row.message_count.to_string());
        }
        if missing == 0 && counted.is_some() {
            let (sequence, time) = self.last_message.map_or((0, None), |(sequence, _, at)| (sequence, Some(at)));
            if row.last_message_sequence != sequence {
                differs(format!("last_message_sequence {sequence}"), row.last_message_sequence.to_string());
            }
            if row.last_message_at != time {
                let text = |time: Option<OffsetDateTime>| time.map_or_else(|| "none".to_owned(), clock);
                differs(format!("last_message_at {}", text(time)), text(row.last_message_at));
            }
        }
        if let Some((_, time)) = self.last.filter(|(_, time)| missing_at_end == 0 && *time != row.last_entry_at) {
            differs(format!("last_entry_at {}, that of the last entry", clock(time)), clock(row.last_entry_at));
        }
        let version = self.version.or((row.oldest_sequence == 1 && missing == 0).then_some(1));
        if let Some(version) = version.filter(|version| *version != row.version) {
            differs(format!("version {version}, that of the last change of the title"), row.version.to_string());
        }
    }

    fn compare_members(&self, row: &ConversationRow, report: &mut Report) {
        if row.kind == DIRECT && row.members != 2 {
            let found = if row.members > 2 { "more".to_owned() } else { row.members.to_string() };
            report.found(MEMBERS, self.at(Finding::new("two members of a DIRECT conversation", found)));
        } else if row.kind != DIRECT && row.members > 0 && !row.has_owner {
            report.found(MEMBERS, self.at(Finding::new("an owner among the members", "none")));
        }
    }

    fn hole(&self, first: i64, last: i64) -> Finding {
        let expected = if first == last { "an entry".to_owned() } else { format!("entries {first} to {last}") };
        self.at(Finding::new(expected, "none")).at("sequence", first)
    }
}

fn clock(time: OffsetDateTime) -> String {
    time.format(&Rfc3339).unwrap_or_else(|_| time.to_string())
}
