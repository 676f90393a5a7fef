//! Between the wire and the domain: fields in, with every violation noted, and users out.

use parlance::user::v1;
use prost_types::Timestamp;
use service_kit::{
    bounds::{self, OutOfBounds},
    failure::{Failure, Violations},
};
use time::OffsetDateTime;

use crate::domain::{Etag, State, User, UserId, Username};

/// Reads a required field, or notes what is wrong with it.
pub(super) fn required<T>(
    violations: &mut Violations,
    field: &str,
    text: &str,
    parse: impl FnOnce(&str) -> Result<T, OutOfBounds>,
) -> Option<T> {
    violations.check(field, parse(text))
}

/// Reads a field that may be empty: the outer `None` is a violation, the inner one an absent value.
#[expect(clippy::option_option, reason = "wrong and absent are two things")]
pub(super) fn optional<T>(
    violations: &mut Violations,
    field: &str,
    text: &str,
    parse: impl FnOnce(&str) -> Result<T, OutOfBounds>,
) -> Option<Option<T>> {
    if text.is_empty() { Some(None) } else { violations.check(field, parse(text)).map(Some) }
}

/// Reads an etag that was given back. One that is none of ours is stale, not malformed.
pub(super) fn etag(text: &str) -> Result<Etag, OutOfBounds> {
    bounds::no_nul(text).map(|()| Etag::read(text))
}

/// Reads the one field of a request that names a user.
pub(super) fn only_user_id(text: &str) -> Result<UserId, Failure> {
    let mut violations = Violations::default();
    required(&mut violations, "user_id", text, UserId::parse).ok_or_else(|| refused(violations))
}

/// Fails with the violations that were noted.
pub(super) fn refused(violations: Violations) -> Failure {
    violations.into_result().err().unwrap_or_else(|| Failure::internal("a field was refused without a word"))
}

/// A user as callers see it.
pub(super) fn user(user: User) -> v1::User {
    v1::User {
        user_id: user.user_id.to_string(),
        username: user.username.map(Username::into_string).unwrap_or_default(),
        display_name: user.display_name.into_string(),
        state: state(user.state).into(),
        create_time: Some(timestamp(user.created_at)),
        update_time: Some(timestamp(user.updated_at)),
        delete_time: user.deleted_at.map(timestamp),
        etag: user.etag.to_text(),
    }
}

fn state(state: State) -> v1::UserState {
    match state {
        State::Active => v1::UserState::Active,
        State::Deactivated => v1::UserState::Deactivated,
        State::Deleted => v1::UserState::Deleted,
    }
}

fn timestamp(moment: OffsetDateTime) -> Timestamp {
    // `time` counts the nanoseconds of the second upwards from it, also before 1970, like protobuf.
    Timestamp { seconds: moment.unix_timestamp(), nanos: moment.nanosecond() as i32 }
}
