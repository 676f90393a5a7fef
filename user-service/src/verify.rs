//! Checks everything that is stored, for operators. Constraints of the tables prevent most problems; this also finds those of
//! tables whose constraints or indexes were dropped or are corrupt. Reads through `storage/verify.rs`.

use service_kit::{
    database::{Error, Inspection, Settings, VersionError},
    verify::{Check, Finding, Report},
};

use crate::storage::verify::{UserRow, has_settings, open, read_outbox, read_users};

const NAMES: Check = Check { name: "names", promise: "A name has its lower-case key, and belongs to one user." };
const TOMBSTONES: Check =
    Check { name: "tombstones", promise: "Nothing personal is left of a deleted user, and only of a deleted user." };
const TIMES: Check = Check { name: "times", promise: "No user was changed before it was created." };
const OUTBOX: Check = Check { name: "outbox", promise: "The outbox names users that exist." };
const SETTINGS: Check = Check { name: "settings", promise: "The key that signs page tokens exists." };

/// All checks, in the order of the report.
pub(crate) const CHECKS: [Check; 5] = [NAMES, TOMBSTONES, TIMES, OUTBOX, SETTINGS];

/// Checks all users and reports problems.
pub(crate) async fn run(settings: &Settings, slice: u32, report: &mut Report) -> Result<(), VersionError> {
    let mut inspection = open(settings, slice).await?;
    check_users(&mut inspection, report).await?;
    check_outbox(&mut inspection, report).await?;
    if !has_settings(&mut inspection).await? {
        report.found(SETTINGS, Finding::new("page_token_key in settings", "none"));
    }
    Ok(())
}

async fn check_users(inspection: &mut Inspection, report: &mut Report) -> Result<(), Error> {
    let mut after = String::new();
    loop {
        let users = read_users(inspection, &after).await?;
        report.counted("users", users.len());
        for user in &users {
            check_user(user, report);
        }
        let is_full = users.len() >= inspection.slice() as usize;
        match users.into_iter().next_back() {
            Some(last) if is_full => after = last.user_id,
            _ => return Ok(()),
        }
    }
}

fn check_user(user: &UserRow, report: &mut Report) {
    let at = |finding: Finding| finding.at("user_id", &*user.user_id);
    if user.username_key != user.expected_key {
        // Names are personal: one that should have been erased is not repeated.
        let found = if user.is_deleted { "a name" } else { &user.username_key };
        report.found(NAMES, at(Finding::new(format!("username_key {}", user.expected_key), found)));
    }
    if let Some(namesake) = &user.namesake {
        report.found(NAMES, at(Finding::new("a unique username_key", format!("that of user {namesake}"))));
    }
    if user.is_deleted && user.has_personal {
        report.found(TOMBSTONES, at(Finding::new("empty personal fields of a deleted user", "personal data")));
    }
    if user.is_deleted != user.has_delete_time {
        let found = if user.has_delete_time { "one" } else { "none" };
        let expected = if user.is_deleted { "a delete time" } else { "no delete time" };
        report.found(TOMBSTONES, at(Finding::new(expected, found)));
    }
    if user.is_time_backwards {
        report.found(TIMES, at(Finding::new("updated_at not before created_at", "an earlier one")));
    }
}

async fn check_outbox(inspection: &mut Inspection, report: &mut Report) -> Result<(), Error> {
    let mut after = i64::MIN;
    loop {
        let outbox = read_outbox(inspection, after).await?;
        report.counted("rows of the outbox", outbox.len());
        for row in &outbox {
            after = row.outbox_id;
            if row.is_orphan {
                let finding = Finding::new("a user", "a row of the outbox only");
                report.found(OUTBOX, finding.at("user_id", &*row.user_id).at("outbox_id", row.outbox_id));
            }
        }
        if outbox.len() < inspection.slice() as usize {
            return Ok(());
        }
    }
}
