//! Entries of members: joined, left, updated.

use service_kit::verify::{Check, Finding};
use time::OffsetDateTime;

use super::checks::MEMBERS;
use crate::{
    domain::{change::member::MemberChange, conversation::Role, ids::UserId},
    storage::verify::EntryRow,
};

/// The columns of a member; NULL in entries of other kinds.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct Columns {
    user_id: Option<String>,
    role: Option<i16>,
    joined_at: Option<OffsetDateTime>,
}

impl Columns {
    /// Returns `None` if a column is missing.
    pub(super) fn read(self) -> Option<MemberChange> {
        Some(MemberChange {
            user_id: UserId::from_storage(self.user_id?),
            role: Role::from_number(i32::from(self.role?))?,
            joined_at: self.joined_at?,
        })
    }
}

/// Checks that a member that left is none any more. One that came back has a later join.
pub(super) fn check_left(row: &EntryRow) -> Option<(Check, Finding)> {
    row.member_join_sequence.filter(|joined| *joined < row.sequence)?;
    let finding = row.finding("a former member, or one who joined again later", "a member who joined before");
    Some((MEMBERS, finding.at("user_id", row.user_id.as_deref().unwrap_or_default())))
}
