//! The promises that the stored data is checked against.

use service_kit::verify::Check;

pub(super) use crate::storage::entry::checks::{CHANGES, MEMBERS, REFERENCES};

pub(super) const HOLES: Check =
    Check { name: "holes", promise: "A log has an entry for each sequence from the oldest to the last." };
pub(super) const DOUBLES: Check = Check { name: "doubles", promise: "A sequence is either one message or one change." };
pub(super) const ORDINALS: Check = Check {
    name: "ordinals",
    promise: "The messages of a conversation are numbered 1, 2, 3, … in the order of the log.",
};
pub(super) const TIMES: Check =
    Check { name: "times", promise: "No entry of a log is earlier than the one before it." };
pub(super) const ORPHANS: Check =
    Check { name: "orphans", promise: "Members, entries and requests belong to a conversation that exists." };
pub(super) const COUNTERS: Check =
    Check { name: "counters", promise: "The counters of a conversation agree with its log." };
pub(super) const MARKS: Check =
    Check { name: "marks", promise: "A read mark is within the log and counts the messages up to it." };
pub(super) const OUTBOX: Check =
    Check { name: "outbox", promise: "The outbox names no head that a log has not reached." };
pub(super) const SETTINGS: Check =
    Check { name: "settings", promise: "The key that page tokens are signed with exists." };

/// All checks, in the order of the report.
pub(crate) const CHECKS: [Check; 12] =
    [HOLES, DOUBLES, ORDINALS, TIMES, ORPHANS, REFERENCES, CHANGES, COUNTERS, MEMBERS, MARKS, OUTBOX, SETTINGS];
