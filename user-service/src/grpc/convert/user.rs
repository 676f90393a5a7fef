//! Users.

use parlance::user::v1;
use service_kit::{failure::Failure, fields::Fields};

use super::time;
use crate::authorised::Authorised;
use crate::domain::{User, UserId, UserState, Username};

/// Reads `user_id`, the only field of a request that needs parsing.
pub(in crate::grpc) fn only_id(text: &str) -> Result<UserId, Failure> {
    let mut fields = Fields::default();
    let user_id = fields.parse("user_id", text, UserId::parse);
    fields.finish(user_id)
}

/// Returns the user as this caller sees it.
pub(in crate::grpc) fn to_wire(authorised: Authorised, user: User) -> v1::User {
    let tokens_valid_after = user.tokens_valid_after.filter(|_| authorised.sees_revocations());
    v1::User {
        user_id: user.user_id.to_string(),
        username: user.username.map(Username::into_string).unwrap_or_default(),
        display_name: user.display_name.into_string(),
        state: state(user.state).into(),
        create_time: Some(time::to_wire(user.created_at)),
        update_time: Some(time::to_wire(user.updated_at)),
        delete_time: user.deleted_at.map(time::to_wire),
        etag: user.etag.to_text(),
        tokens_valid_after: tokens_valid_after.map(time::to_wire),
    }
}

fn state(state: UserState) -> v1::UserState {
    match state {
        UserState::Active => v1::UserState::Active,
        UserState::Deactivated => v1::UserState::Deactivated,
        UserState::Deleted => v1::UserState::Deleted,
    }
}
