//! `GetUser`: one user by id, by name, or by both. The original contract uses this, too.

use parlance::user::v1;
use service_kit::{failure::Failure, fields::Fields};
use tonic::Request;

use super::{authorise, context::Context, convert};
use crate::{
    authorised::Authorised,
    domain::{Refusal, Rpc, User, UserId, Username},
};

/// The user that a request names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum UserKey {
    Id(UserId),
    Name(Username),
    Both(UserId, Username),
}

pub(super) async fn answer(context: &Context, request: Request<v1::GetUserRequest>) -> Result<v1::User, Failure> {
    let key = decode(&request.get_ref().user_id, &request.get_ref().username)?;
    let authorised = authorise::caller(context, Rpc::GetUser, request.extensions()).await?;
    let user = find(context, authorised, key).await?;
    Ok(convert::user::to_wire(authorised, user))
}

pub(super) fn decode(user_id: &str, username: &str) -> Result<UserKey, Failure> {
    let mut fields = Fields::default();
    let user_id = fields.optional("user_id", user_id, UserId::parse);
    let username = fields.optional("username", username, Username::parse);
    match fields.finish((user_id, username))? {
        (Some(user_id), None) => Ok(UserKey::Id(user_id)),
        (None, Some(username)) => Ok(UserKey::Name(username)),
        (Some(user_id), Some(username)) => Ok(UserKey::Both(user_id, username)),
        (None, None) => Err(Failure::invalid_field("user_id", "user_id or username is required")),
    }
}

pub(super) async fn find(context: &Context, authorised: Authorised, key: UserKey) -> Result<User, Failure> {
    let (found, refusal) = match key {
        UserKey::Id(user_id) => {
            (context.lookups.find(authorised, user_id.clone()).await?, Refusal::UserNotFound { user_id })
        }
        UserKey::Name(username) => {
            (context.store.find_user_by_name(authorised, &username).await?, Refusal::UsernameNotFound { username })
        }
        UserKey::Both(user_id, username) => {
            let has_name = |user: &User| user.list_key() == username.key();
            let found = context.lookups.find(authorised, user_id.clone()).await?.filter(has_name);
            (found, Refusal::NotTheSameUser { user_id, username })
        }
    };
    found.ok_or_else(|| refusal.into())
}
