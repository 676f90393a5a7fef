//! `GetUser`: one user by id, by name, or by both. The original contract asks here, too.

use parlance::user::v1;
use service_kit::failure::{Failure, Violations};
use tonic::Request;

use super::{
    convert::{self, optional},
    service::Service,
};
use crate::domain::{Refusal, User, UserId, Username};

/// Who is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asked {
    Id(UserId),
    Name(Username),
    Both(UserId, Username),
}

pub(super) async fn answer(service: &Service, request: Request<v1::GetUserRequest>) -> Result<v1::User, Failure> {
    let asked = decode(&request.get_ref().user_id, &request.get_ref().username)?;
    // Everybody may look: message-service does so for each sender.
    let user = find(service, asked).await?;
    Ok(convert::user(user))
}

pub(super) fn decode(user_id: &str, username: &str) -> Result<Asked, Failure> {
    let mut violations = Violations::default();
    let by_id = optional(&mut violations, "user_id", user_id, UserId::parse);
    let by_name = optional(&mut violations, "username", username, Username::parse);
    match (by_id, by_name) {
        (Some(Some(user_id)), Some(None)) => Ok(Asked::Id(user_id)),
        (Some(None), Some(Some(username))) => Ok(Asked::Name(username)),
        (Some(Some(user_id)), Some(Some(username))) => Ok(Asked::Both(user_id, username)),
        (Some(None), Some(None)) => {
            violations.add("user_id", "user_id or username is required");
            Err(convert::refused(violations))
        }
        (None, _) | (_, None) => Err(convert::refused(violations)),
    }
}

pub(super) async fn find(service: &Service, asked: Asked) -> Result<User, Failure> {
    let (found, missing) = match asked {
        Asked::Id(user_id) => (service.lookups.find(user_id.clone()).await?, Refusal::UserNotFound { user_id }),
        Asked::Name(username) => {
            (service.store.find_user_by_name(&username).await?, Refusal::UsernameNotFound { username })
        }
        Asked::Both(user_id, username) => {
            let named_so = |user: &User| user.list_key() == username.key();
            let found = service.lookups.find(user_id.clone()).await?.filter(named_so);
            (found, Refusal::NotTheSameUser { user_id, username })
        }
    };
    found.ok_or_else(|| missing.into())
}
