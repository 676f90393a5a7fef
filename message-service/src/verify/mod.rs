//! Checks the stored data for operators: reports states that the write path cannot have produced. Reads through
//! `storage/verify.rs` and contains no SQL; the report and the command line are in `service-kit`.

mod checks;
mod log;
mod rows;

use service_kit::{
    database::{Settings, VersionError},
    verify::{Finding, Report},
};

use self::{checks::SETTINGS, log::LogChecker};
use crate::storage::{
    Error,
    verify::{Inspection, ResumeKey},
};

pub(crate) use self::checks::CHECKS;

/// The error of a check that is incomplete.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VerifyError {
    /// The database cannot be reached, or its schema has another version.
    #[error(transparent)]
    Version(#[from] VersionError),
    /// The database failed during the check, or took too long.
    #[error(transparent)]
    Database(#[from] Error),
    /// The requested conversation does not exist.
    #[error("conversation {0:?} does not exist, and nothing refers to it")]
    ConversationNotFound(String),
}

/// Checks all conversations or one, and adds the findings to the report.
pub(crate) async fn run(
    settings: &Settings,
    conversation_id: Option<&str>,
    slice: u32,
    report: &mut Report,
) -> Result<(), VerifyError> {
    let mut inspection = Inspection::open(settings, slice).await?;
    let rows = check_logs(&mut inspection, conversation_id, report).await?;
    let members = check_members(&mut inspection, conversation_id, report).await?;
    if let Some(id) = conversation_id {
        let exists = rows > 0 || members > 0;
        return if exists { Ok(()) } else { Err(VerifyError::ConversationNotFound(id.to_owned())) };
    }
    check_outbox(&mut inspection, report).await?;
    check_requests(&mut inspection, report).await?;
    if !inspection.has_settings().await? {
        report.found(SETTINGS, Finding::new("one row of settings", "none or more"));
    }
    Ok(())
}

/// Returns the number of conversations and entries.
async fn check_logs(inspection: &mut Inspection, only: Option<&str>, report: &mut Report) -> Result<usize, Error> {
    let mut checker = LogChecker::default();
    let mut resume = Some(ResumeKey::before(only));
    let mut read = 0;
    while let Some(after) = resume.take() {
        let slice = inspection.read_slice(&after, only).await?;
        read += slice.conversations.len() + slice.entries.len();
        report.counted("entries", slice.entries.len());
        resume.clone_from(&slice.next);
        let finished = checker.check(slice, report);
        report.counted("conversations", finished);
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
