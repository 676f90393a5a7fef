//! Statements on `parlance_user.users`: reads are single statements, writes single calls of the functions made by the
//! migrations. Races are settled by the table's named unique constraints, inside the one statement.

use std::{future::Future, time::Duration};

use service_kit::database;

use super::{
    Error, Store,
    rows::{Answer, Outcome, UserRow},
};
use crate::domain::{DisplayName, Etag, NewUser, Refusal, State, User, UserChange, UserId, Username};

/// How often a write that lost against others is tried.
const MAX_ATTEMPTS: usize = 3;
/// The longest pause between two of them.
const MAX_PAUSE: Duration = Duration::from_millis(50);

/// A section of the list, by [`User::list_key`]: from `first` on, behind `after`, before `until`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyRange {
    pub(crate) first: String,
    pub(crate) after: String,
    pub(crate) until: String,
}

/// The columns of a [`UserRow`].
macro_rules! user_columns {
    () => {
        "user_id, username, display_name, state, version, created_at, updated_at, deleted_at"
    };
}

/// What every writing function answers, as columns.
macro_rules! answer_of {
    ($call:literal) => {
        concat!(
            "SELECT outcome, (account).user_id, (account).username, (account).display_name, (account).state,
                    (account).version, (account).created_at, (account).updated_at, (account).deleted_at
             FROM parlance_user.",
            $call
        )
    };
}

const FIND_BY_IDS: &str = concat!(
    "SELECT ",
    user_columns!(),
    " FROM parlance_user.users
      WHERE user_id = ANY($1)"
);

const FIND_BY_NAME: &str = concat!(
    "SELECT ",
    user_columns!(),
    " FROM parlance_user.users
      WHERE username_key = $1"
);

// By users_username_key_key alone, whatever the section.
const LIST: &str = concat!(
    "SELECT ",
    user_columns!(),
    " FROM parlance_user.users
      WHERE username_key >= $1 AND username_key > $2 AND username_key < $3
      ORDER BY username_key
      LIMIT $4"
);

const CREATE: &str = answer_of!("create_user_v1($1, $2, $3, $4, $5)");
const UPDATE: &str = answer_of!("update_user_v1($1, $2, $3, $4)");
const SET_STATE: &str = answer_of!("set_user_state_v1($1, $2)");
const DELETE: &str = answer_of!("delete_user_v1($1, $2)");

impl Store {
    /// Finds the users with these ids, tombstones included, each once and in no order.
    pub(crate) async fn find_users(&self, user_ids: &[UserId]) -> Result<Vec<User>, Error> {
        let user_ids: Vec<&str> = user_ids.iter().map(UserId::as_str).collect();
        let rows: Vec<UserRow> = self.database()?.fetch_all(sqlx::query_as(FIND_BY_IDS).bind(user_ids)).await?;
        into_users(rows)
    }

    /// Finds the user with this name, regardless of case. Deleted users have none.
    pub(crate) async fn find_user_by_name(&self, username: &Username) -> Result<Option<User>, Error> {
        let query = sqlx::query_as(FIND_BY_NAME).bind(username.key());
        let row: Option<UserRow> = self.database()?.fetch_optional(query).await?;
        Ok(row.map(User::try_from).transpose()?)
    }

    /// Lists at most `limit` users of a section, ordered by [`User::list_key`].
    pub(crate) async fn list_users(&self, range: &KeyRange, limit: i64) -> Result<Vec<User>, Error> {
        let query = sqlx::query_as(LIST).bind(&range.first).bind(&range.after).bind(&range.until).bind(limit);
        let rows: Vec<UserRow> = self.database()?.fetch_all(query).await?;
        into_users(rows)
    }

    /// Makes a user, or finds the one that the same request made before.
    ///
    /// # Errors
    /// `UserIdTaken`, `UsernameTaken`, `RequestIdReused`; [`Error::OutcomeUnknown`] when the answer was lost and there is
    /// no request to recognise a repeat by.
    pub(crate) async fn create_user(&self, new: &NewUser) -> Result<User, Error> {
        let database = self.database()?;
        let request_id = new.request.as_ref().map(|request| request.request_id.as_str());
        let content = new.request.as_ref().map(|request| request.content.as_bytes());
        let answer: Answer = attempt(|| {
            let query = sqlx::query_as(CREATE)
                .bind(new.user_id.as_str())
                .bind(new.username.as_str())
                .bind(new.display_name.as_str())
                .bind(request_id)
                .bind(content);
            database.fetch_one(query)
        })
        .await
        .map_err(|error| if new.request.is_some() { error.into() } else { Error::of_unrepeatable_write(error) })?;

        match (answer.outcome, &new.request) {
            (Outcome::Created | Outcome::Repeated, _) => answer.into_user(),
            (Outcome::UserIdTaken, _) => Err(Refusal::UserIdTaken { user_id: new.user_id.clone() }.into()),
            (Outcome::UsernameTaken, _) => Err(Refusal::UsernameTaken { username: new.username.clone() }.into()),
            (Outcome::RequestIdReused, Some(request)) => {
                Err(Refusal::RequestIdReused { request_id: request.request_id.clone() }.into())
            }
            (other, _) => Err(other.unexpected_from("create_user_v1")),
        }
    }

    /// Changes a user's fields. A change to what is there already changes nothing, its etag neither.
    ///
    /// # Errors
    /// `UserNotFound`, `UserDeleted`, `EtagMismatch`, `UsernameTaken`.
    pub(crate) async fn update_user(&self, change: &UserChange) -> Result<User, Error> {
        let database = self.database()?;
        let answer: Answer = attempt(|| {
            let query = sqlx::query_as(UPDATE)
                .bind(change.user_id.as_str())
                .bind(change.username.as_ref().map(Username::as_str))
                .bind(change.display_name.as_ref().map(DisplayName::as_str))
                .bind(change.expected.map(Etag::version));
            database.fetch_one(query)
        })
        .await
        .map_err(|error| match (&error, &change.username) {
            (database::Error::Conflict { constraint, .. }, Some(username))
                if constraint == "users_username_key_key" =>
            {
                Refusal::UsernameTaken { username: username.clone() }.into()
            }
            _ => Error::from(error),
        })?;
        answer.of_change(&change.user_id, "update_user_v1")
    }

    /// Deactivates or reactivates a user; one that is so already is left as it is.
    ///
    /// # Errors
    /// `UserNotFound`, `UserDeleted`.
    pub(crate) async fn set_user_state(&self, user_id: &UserId, state: State) -> Result<User, Error> {
        let database = self.database()?;
        let answer: Answer =
            attempt(|| database.fetch_one(sqlx::query_as(SET_STATE).bind(user_id.as_str()).bind(state.as_str())))
                .await?;
        answer.of_change(user_id, "set_user_state_v1")
    }

    /// Turns a user into a tombstone; one that is deleted already is left as it is.
    ///
    /// # Errors
    /// `UserNotFound`, `EtagMismatch`.
    pub(crate) async fn delete_user(&self, user_id: &UserId, expected: Option<Etag>) -> Result<User, Error> {
        let database = self.database()?;
        let answer: Answer = attempt(|| {
            let query = sqlx::query_as(DELETE).bind(user_id.as_str()).bind(expected.map(Etag::version));
            database.fetch_one(query)
        })
        .await?;
        answer.of_change(user_id, "delete_user_v1")
    }
}

/// Repeats a write that was rolled back because others were in its way, such as two users swapping their names.
async fn attempt<Q, T>(write: impl Fn() -> Q) -> Result<T, database::Error>
where
    Q: Future<Output = Result<T, database::Error>>,
{
    for _ in 1..MAX_ATTEMPTS {
        match write().await {
            Err(database::Error::Serialization(_) | database::Error::LockTimeout(_)) => {}
            outcome => return outcome,
        }
        // Two that met once would meet again if both came back at the same time.
        tokio::time::sleep(MAX_PAUSE.mul_f32(fastrand::f32())).await;
    }
    write().await
}

fn into_users(rows: Vec<UserRow>) -> Result<Vec<User>, Error> {
    Ok(rows.into_iter().map(User::try_from).collect::<Result<_, _>>()?)
}
