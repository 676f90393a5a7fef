//! Rows of `parlance_user.users` and results of its functions, converted to domain values. A row that cannot be converted was
//! not written by this code and is corrupt.

use std::str::FromStr;

use service_kit::database;
use sqlx::{FromRow, Row, postgres::PgRow};
use time::OffsetDateTime;

use crate::domain::{DisplayName, Etag, User, UserId, UserState, Username};

/// A row of the table.
#[derive(Debug, FromRow)]
pub(super) struct UserRow {
    user_id: String,
    username: String,
    display_name: String,
    state: String,
    version: i64,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
    deleted_at: Option<OffsetDateTime>,
    tokens_valid_after: Option<OffsetDateTime>,
}

impl TryFrom<UserRow> for User {
    type Error = database::Error;

    fn try_from(row: UserRow) -> Result<Self, database::Error> {
        let corrupt = |column: &str| database::Error::Corrupt(format!("users.{column} of user {:?}", row.user_id));
        let state = UserState::from_word(&row.state).ok_or_else(|| corrupt("state"))?;
        let username = match state {
            UserState::Deleted => None,
            UserState::Active | UserState::Deactivated => {
                Some(Username::parse(&row.username).map_err(|_| corrupt("username"))?)
            }
        };
        Ok(Self {
            user_id: UserId::parse(&row.user_id).map_err(|_| corrupt("user_id"))?,
            username,
            display_name: DisplayName::parse(&row.display_name).map_err(|_| corrupt("display_name"))?,
            state,
            etag: Etag::of_version(row.version),
            created_at: row.created_at,
            updated_at: row.updated_at,
            deleted_at: row.deleted_at,
            tokens_valid_after: row.tokens_valid_after,
        })
    }
}

/// The outcome that a writing function returns, as a word. The migrations list the words of each function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Created,
    Repeated,
    Changed,
    Unchanged,
    NotFound,
    Deleted,
    VersionMismatch,
    UserIdTaken,
    UsernameTaken,
    RequestIdReused,
}

impl Outcome {
    /// The error for an outcome that the function cannot have.
    pub(super) fn unexpected_from(self, function: &str) -> database::Error {
        database::Error::Corrupt(format!("{function} returned {self:?}"))
    }
}

impl FromStr for Outcome {
    type Err = sqlx::Error;

    fn from_str(word: &str) -> Result<Self, sqlx::Error> {
        Ok(match word {
            "created" => Self::Created,
            "repeated" => Self::Repeated,
            "changed" => Self::Changed,
            "unchanged" => Self::Unchanged,
            "not_found" => Self::NotFound,
            "deleted" => Self::Deleted,
            "version_mismatch" => Self::VersionMismatch,
            "user_id_taken" => Self::UserIdTaken,
            "username_taken" => Self::UsernameTaken,
            "request_id_reused" => Self::RequestIdReused,
            other => return Err(sqlx::Error::Decode(format!("unknown outcome {other:?}").into())),
        })
    }
}

/// An outcome, and the row as it is after the call, if there is one.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) outcome: Outcome,
    account: Option<UserRow>,
}

impl FromRow<'_, PgRow> for Answer {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        let outcome = row.try_get::<&str, _>("outcome")?.parse()?;
        let exists = row.try_get::<Option<&str>, _>("user_id")?.is_some();
        let account = exists.then(|| UserRow::from_row(row)).transpose()?;
        Ok(Self { outcome, account })
    }
}

impl Answer {
    /// Returns the user of a call that succeeded.
    pub(super) fn into_user(self) -> Result<User, database::Error> {
        let row = self.account.ok_or_else(|| database::Error::Corrupt("an outcome without its row".to_owned()))?;
        row.try_into()
    }
}
