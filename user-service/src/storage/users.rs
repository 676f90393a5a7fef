//! Statements on `parlance_user.users`: reads are single statements, writes single calls of the functions created by the
//! migrations. The table's named unique constraints settle races, inside the one statement.

use std::{future::Future, time::Duration};

use service_kit::{
    auth::Rule,
    backoff::jittered,
    database::{self, Database},
};

use super::{
    Error, Store,
    rows::{Answer, Outcome, UserRow},
};
use crate::{
    authorised::Authorised,
    domain::{Changed, Created, DisplayName, Etag, NewUser, User, UserChange, UserId, UserState, Username},
};

/// The most attempts at a write that loses against others.
const MAX_ATTEMPTS: usize = 3;
/// The longest pause between two attempts.
const MAX_PAUSE: Duration = Duration::from_millis(50);

/// A section of the list, by [`User::list_key`]: from `first` on, after `after`, before `until`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyRange {
    pub(crate) first: String,
    pub(crate) after: String,
    pub(crate) until: String,
}

/// The columns of a [`UserRow`].
macro_rules! user_columns {
    () => {
        "user_id, username, display_name, state, version, created_at, updated_at, deleted_at, tokens_valid_after"
    };
}

/// The columns that every writing function returns.
macro_rules! answer_of {
    ($call:literal) => {
        concat!(
            "SELECT outcome, (account).user_id, (account).username, (account).display_name, (account).state,
                    (account).version, (account).created_at, (account).updated_at, (account).deleted_at,
                    (account).tokens_valid_after
             FROM parlance_user.",
            $call
        )
    };
}

// By users_pkey.
const FIND_BY_IDS: &str = concat!(
    "SELECT ",
    user_columns!(),
    " FROM parlance_user.users
      WHERE user_id = ANY($1)"
);

// By users_username_key_key.
const FIND_BY_NAME: &str = concat!(
    "SELECT ",
    user_columns!(),
    " FROM parlance_user.users
      WHERE username_key = $1"
);

// By users_username_key_key alone, for any section.
const LIST: &str = concat!(
    "SELECT ",
    user_columns!(),
    " FROM parlance_user.users
      WHERE username_key >= $1 AND username_key > $2 AND username_key < $3
      ORDER BY username_key
      LIMIT $4"
);

// Each by users_pkey; users_request_id_key and users_username_key_key settle races.
const CREATE: &str = answer_of!("create_user_v1($1, $2, $3, $4, $5)");
const UPDATE: &str = answer_of!("update_user_v1($1, $2, $3, $4)");
const SET_STATE: &str = answer_of!("set_user_state_v1($1, $2)");
const DELETE: &str = answer_of!("delete_user_v1($1, $2)");
const REVOKE_TOKENS: &str = answer_of!("revoke_tokens_v1($1)");

impl Store {
    /// Returns the users with these ids, tombstones included, each once and in no order.
    pub(crate) async fn find_users(&self, _: Authorised, user_ids: &[UserId]) -> Result<Vec<User>, Error> {
        self.load_users(user_ids).await
    }

    /// Does the same for the tasks that answer lookups and publish changes, which act for no caller.
    pub(crate) async fn load_users(&self, user_ids: &[UserId]) -> Result<Vec<User>, Error> {
        let user_ids: Vec<&str> = user_ids.iter().map(UserId::as_str).collect();
        let rows: Vec<UserRow> = self.database()?.fetch_all(sqlx::query_as(FIND_BY_IDS).bind(user_ids)).await?;
        into_users(rows)
    }

    /// Returns the user with this name, regardless of case. Deleted users have none.
    pub(crate) async fn find_user_by_name(&self, _: Authorised, username: &Username) -> Result<Option<User>, Error> {
        let query = sqlx::query_as(FIND_BY_NAME).bind(username.key());
        let row: Option<UserRow> = self.database()?.fetch_optional(query).await?;
        Ok(row.map(User::try_from).transpose()?)
    }

    /// Returns at most `limit` users of a section, ordered by [`User::list_key`].
    pub(crate) async fn list_users(&self, _: Authorised, range: &KeyRange, limit: i64) -> Result<Vec<User>, Error> {
        let query = sqlx::query_as(LIST).bind(&range.first).bind(&range.after).bind(&range.until).bind(limit);
        let rows: Vec<UserRow> = self.database()?.fetch_all(query).await?;
        into_users(rows)
    }

    /// Returns the database for a write.
    fn database_to_write(&self, by: Authorised) -> Result<&Database, Error> {
        debug_assert!(by.rpc().rule() != Rule::AnyCaller, "{:?} writes and has no rule for its callers", by.rpc());
        self.database()
    }

    /// Creates a user, or finds the one that the same request created before.
    pub(crate) async fn create_user(&self, by: Authorised, new: &NewUser) -> Result<Created, Error> {
        let database = self.database_to_write(by)?;
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
        .await?;
        Ok(match (answer.outcome, &new.request) {
            (Outcome::Created | Outcome::Repeated, _) => Created::User(answer.into_user()?),
            (Outcome::UserIdTaken, _) => Created::UserIdTaken,
            (Outcome::UsernameTaken, _) => Created::UsernameTaken,
            (Outcome::RequestIdReused, Some(request)) => Created::RequestIdReused(request.request_id.clone()),
            (other, _) => return Err(other.unexpected_from("create_user_v1").into()),
        })
    }

    /// Changes a user's fields. A change to the present values changes nothing, nor the etag.
    pub(crate) async fn update_user(&self, by: Authorised, change: &UserChange) -> Result<Changed, Error> {
        let database = self.database_to_write(by)?;
        let written = attempt(|| {
            let query = sqlx::query_as(UPDATE)
                .bind(change.user_id.as_str())
                .bind(change.username.as_ref().map(Username::as_str))
                .bind(change.display_name.as_ref().map(DisplayName::as_str))
                .bind(change.expected.map(Etag::version));
            database.fetch_one(query)
        })
        .await;
        match (written, &change.username) {
            (Err(database::Error::Conflict { constraint, .. }), Some(username))
                if constraint == "users_username_key_key" =>
            {
                Ok(Changed::UsernameTaken(username.clone()))
            }
            (written, _) => changed(written?, "update_user_v1"),
        }
    }

    /// Deactivates or reactivates a user. One that is in the state already stays as it is.
    pub(crate) async fn set_user_state(
        &self,
        by: Authorised,
        user_id: &UserId,
        state: UserState,
    ) -> Result<Changed, Error> {
        let database = self.database_to_write(by)?;
        let answer =
            attempt(|| database.fetch_one(sqlx::query_as(SET_STATE).bind(user_id.as_str()).bind(state.as_str())))
                .await?;
        changed(answer, "set_user_state_v1")
    }

    /// Makes all tokens void that a user has had so far.
    pub(crate) async fn revoke_tokens(&self, by: Authorised, user_id: &UserId) -> Result<Changed, Error> {
        let database = self.database_to_write(by)?;
        let answer = attempt(|| database.fetch_one(sqlx::query_as(REVOKE_TOKENS).bind(user_id.as_str()))).await?;
        changed(answer, "revoke_tokens_v1")
    }

    /// Turns a user into a tombstone. One that is deleted already stays as it is.
    pub(crate) async fn delete_user(
        &self,
        by: Authorised,
        user_id: &UserId,
        expected: Option<Etag>,
    ) -> Result<Changed, Error> {
        let database = self.database_to_write(by)?;
        let answer = attempt(|| {
            let query = sqlx::query_as(DELETE).bind(user_id.as_str()).bind(expected.map(Etag::version));
            database.fetch_one(query)
        })
        .await?;
        changed(answer, "delete_user_v1")
    }
}

/// Reads the result of a function that changes one user.
fn changed(answer: Answer, function: &str) -> Result<Changed, Error> {
    Ok(match answer.outcome {
        Outcome::Changed | Outcome::Unchanged => Changed::User(answer.into_user()?),
        Outcome::NotFound => Changed::NotFound,
        Outcome::Deleted => Changed::Deleted,
        Outcome::VersionMismatch => Changed::EtagMismatch,
        other @ (Outcome::Created
        | Outcome::Repeated
        | Outcome::UserIdTaken
        | Outcome::UsernameTaken
        | Outcome::RequestIdReused) => return Err(other.unexpected_from(function).into()),
    })
}

/// Repeats a write that was rolled back because of others, such as two users who swap their names.
async fn attempt<Q, T>(write: impl Fn() -> Q) -> Result<T, database::Error>
where
    Q: Future<Output = Result<T, database::Error>>,
{
    for _ in 1..MAX_ATTEMPTS {
        match write().await {
            Err(database::Error::Serialization(_) | database::Error::LockTimeout(_)) => {}
            outcome => return outcome,
        }
        // Two writes that collided once would collide again if both were repeated at the same time.
        tokio::time::sleep(jittered(MAX_PAUSE, 0.0..1.0)).await;
    }
    write().await
}

fn into_users(rows: Vec<UserRow>) -> Result<Vec<User>, Error> {
    Ok(rows.into_iter().map(User::try_from).collect::<Result<_, _>>()?)
}
