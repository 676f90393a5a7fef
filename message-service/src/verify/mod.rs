//! A check of everything that is stored, for operators: what the write path can never have written, it names. Reads through
//! `storage/verify.rs` and knows no SQL; the report and the command line are `service-kit`'s.

mod log;
mod rows;

use service_kit::{
    database::{Settings, VersionError},
    verify::{Check, Finding, Report},
};

use self::log::Walk;
use crate::storage::{
    Error,
    entry::checks::{CHANGES, MEMBERS, REFERENCES},
    verify::{Inspection, Place},
};

const HOLES: Check =
    Check { name: "holes", promise: "A log has an entry for each sequence from its oldest to its last." };
const DOUBLES: Check = Check { name: "doubles", promise: "A sequence is either one message or one change." };
const ORDINALS: Check = Check {
    name: "ordinals",
    promise: "The messages of a conversation are numbered 1, 2, 3, … in the order of the log.",
};
const TIMES: Check = Check { name: "times", promise: "No entry of a log is earlier than the one before it." };
const ORPHANS: Check =
    Check { name: "orphans", promise: "Members, entries and requests belong to a conversation that exists." };
const COUNTERS: Check = Check { name: "counters", promise: "The counters of a conversation say what its log says." };
const MARKS: Check =
    Check { name: "marks", promise: "A read mark lies within the log and counts the messages up to it." };
const OUTBOX: Check = Check { name: "outbox", promise: "The outbox names no head that a log has not reached." };
const SETTINGS: Check = Check { name: "settings", promise: "The key that page tokens are signed with is there." };

/// All of them, in the order in which they are told.
pub(crate) const CHECKS: [Check; 12] =
    [HOLES, DOUBLES, ORDINALS, TIMES, ORPHANS, REFERENCES, CHANGES, COUNTERS, MEMBERS, MARKS, OUTBOX, SETTINGS];

/// Why not everything could be checked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unchecked {
    /// The database is not there, or not this binary's.
    #[error(transparent)]
    Version(#[from] VersionError),
    /// It went away on the way, or took too long.
    #[error(transparent)]
    Database(#[from] Error),
    /// The one that was asked for.
    #[error("there is no conversation {0:?}, nor anything that names it")]
    NoConversation(String),
}

/// Checks all conversations or one, and notes what is wrong.
pub(crate) async fn run(
    settings: &Settings,
    conversation_id: Option<&str>,
    slice: u32,
    report: &mut Report,
) -> Result<(), Unchecked> {
    let mut inspection = Inspection::open(settings, slice).await?;
    let logs = check_logs(&mut inspection, conversation_id, report).await?;
    let members = check_members(&mut inspection, conversation_id, report).await?;
    if let Some(id) = conversation_id {
        let is_there = logs > 0 || members > 0;
        return if is_there { Ok(()) } else { Err(Unchecked::NoConversation(id.to_owned())) };
    }
    check_outbox(&mut inspection, report).await?;
    check_requests(&mut inspection, report).await?;
    if !inspection.has_settings().await? {
        report.found(SETTINGS, Finding::new("one row of settings", "none or more"));
    }
    Ok(())
}

/// Gives the number of conversations and entries.
async fn check_logs(inspection: &mut Inspection, only: Option<&str>, report: &mut Report) -> Result<usize, Error> {
    let mut walk = Walk::default();
    let mut place = Some(Place::before(only));
    let mut read = 0;
    while let Some(after) = place.take() {
        let slice = inspection.read_slice(&after, only).await?;
        read += slice.conversations.len() + slice.entries.len();
        report.counted("entries", slice.entries.len());
        place.clone_from(&slice.next);
        let closed = walk.take(slice, report);
        report.counted("conversations", closed);
    }
    Ok(read)
}

async fn check_members(inspection: &mut Inspection, only: Option<&str>, report: &mut Report) -> Result<usize, Error> {
    let mut after = (only.unwrap_or_default().to_owned(), String::new());
    let mut read = 0;
    loop {
        let members = inspection.read_members((&after.0, &after.1), only).await?;
        read += members.len();
        report.counted("members", members.len());
        for member in &members {
            rows::member(member, report);
        }
        let is_full = members.len() >= inspection.slice();
        match members.into_iter().next_back() {
            Some(last) if is_full => after = (last.conversation_id, last.user_id),
            _ => return Ok(read),
        }
    }
}

async fn check_outbox(inspection: &mut Inspection, report: &mut Report) -> Result<(), Error> {
    let mut after = i64::MIN;
    loop {
        let outbox = inspection.read_outbox(after).await?;
        let mut rows = 0;
        for row in &outbox {
            rows += usize::from(row.outbox_id != after);
            after = row.outbox_id;
            rows::outbox(row, report);
        }
        report.counted("rows of the outbox", rows);
        if rows < inspection.slice() {
            return Ok(());
        }
    }
}

async fn check_requests(inspection: &mut Inspection, report: &mut Report) -> Result<(), Error> {
    let mut after = (String::new(), String::new());
    loop {
        let requests = inspection.read_requests((&after.0, &after.1)).await?;
        for request in &requests {
            rows::request(request, report);
        }
        let is_full = requests.len() >= inspection.slice();
        match requests.into_iter().next_back() {
            Some(last) if is_full => after = (last.creator_id, last.request_id),
            _ => return Ok(()),
        }
    }
}
