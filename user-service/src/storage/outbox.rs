//! The outbox: one row for each change of a user, written by a trigger in the transaction of the change.

use std::time::Duration;

use service_kit::database::{
    Database,
    outbox::{Reader, Source, Trimmer},
};
use sqlx::{FromRow, Row, postgres::PgRow};

use crate::domain::UserId;

/// The time for which rows are kept, so that readers have that long to read them.
const RETENTION: Duration = Duration::from_mins(5);

/// The outbox of users.
#[derive(Debug)]
pub(super) struct UserChanges;

/// The users that changed, each once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChangedUsers(pub(crate) Vec<UserId>);

impl Source for UserChanges {
    type Batch = ChangedUsers;

    const TABLE: &'static str = "parlance_user.outbox";
    const COLUMNS: &'static str = "user_id";
    const BATCH: &'static str = "ARRAY(SELECT DISTINCT user_id FROM read) AS user_ids";
    const MAX_WEIGHT: i64 = 1_000;
}

impl FromRow<'_, PgRow> for ChangedUsers {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        let texts: Vec<String> = row.try_get("user_ids")?;
        let parse = |text: &String| {
            UserId::parse(text).map_err(|_| sqlx::Error::Decode(format!("outbox.user_id {text:?}").into()))
        };
        Ok(Self(texts.iter().map(parse).collect::<Result<_, _>>()?))
    }
}

/// Prepares to read the outbox.
pub(super) fn reader(database: Database) -> Reader<UserChanges> {
    Reader::new(database, RETENTION)
}

/// Prepares to trim the outbox.
pub(super) fn trimmer(database: Database) -> Trimmer {
    Trimmer::new(database, UserChanges::TABLE, RETENTION)
}
