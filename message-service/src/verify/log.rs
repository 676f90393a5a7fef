//! Checks all logs, entry by entry. From one slice to the next it keeps only values that never change once committed: the
//! sequence, the ordinal and the time of entries.

use service_kit::verify::{Finding, Report};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::checks::{COUNTERS, DOUBLES, HOLES, MEMBERS, ORDINALS, ORPHANS, TIMES};
use crate::{
    domain::{change::EntryKind, conversation::Kind},
    storage::{
        entry,
        verify::{ConversationRow, EntryRow, Slice},
    },
};

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
        if entry.sequence < oldest {
            report.found(COUNTERS, entry.finding(format!("no entry before oldest_sequence {oldest}"), "an entry"));
        }
        let expected = self.last.map_or(oldest, |(last, _)| (last + 1).max(oldest));
        if self.last.is_some_and(|(last, _)| last == entry.sequence) {
            report.found(DOUBLES, entry.finding("one entry", "a message and a change"));
        } else if entry.sequence > expected {
            self.missing += entry.sequence - expected;
            report.found(HOLES, self.hole(expected, entry.sequence - 1));
        }
        if let Some((_, before)) = self.last.filter(|(_, before)| entry.created_at < *before) {
            let expected = format!("a time not before that of the previous entry, {}", clock(before));
            report.found(TIMES, entry.finding(expected, clock(entry.created_at)));
        }
        for (check, finding) in entry::check(entry, oldest) {
            report.found(check, finding);
        }
        match EntryKind::from_number(entry.kind) {
            Some(EntryKind::MessageSent) => self.check_message(entry, oldest, report),
            Some(EntryKind::ConversationUpdated) => self.version = entry.version,
            _ => {}
        }
        self.last = Some((entry.sequence, entry.created_at));
    }

    fn check_message(&mut self, entry: &EntryRow, oldest: i64, report: &mut Report) {
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
            report.found(ORDINALS, entry.finding(format!("ordinal {least}{or_more}"), ordinal));
        }
        self.last_message = Some((entry.sequence, ordinal, entry.created_at));
        self.missing = 0;
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
        let is_direct = row.kind == Kind::Direct as i16;
        if is_direct && row.members != 2 {
            let found = if row.members > 2 { "more".to_owned() } else { row.members.to_string() };
            report.found(MEMBERS, self.at(Finding::new("two members of a DIRECT conversation", found)));
        } else if !is_direct && row.members > 0 && !row.has_owner {
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
