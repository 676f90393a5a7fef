//! `CreateUser`: makes a user, once per request id.

use parlance::user::v1;
use service_kit::failure::{Failure, Violations};
use tonic::Request;
use uuid::Uuid;

use super::{
    authorise,
    convert::{self, optional, required},
    service::Service,
};
use crate::domain::{self, ContentHash, DisplayName, NewUser, RequestId, UserId, Username};

pub(super) async fn answer(service: &Service, request: Request<v1::CreateUserRequest>) -> Result<v1::User, Failure> {
    let new = decode(request.get_ref(), Uuid::now_v7())?;
    authorise::admin(request.extensions())?;
    let user = service.store.create_user(&new).await?;
    Ok(convert::user(user))
}

/// `fresh` becomes the id of a user whose caller brings none.
fn decode(request: &v1::CreateUserRequest, fresh: Uuid) -> Result<NewUser, Failure> {
    let mut violations = Violations::default();
    let user_id = optional(&mut violations, "user_id", &request.user_id, UserId::parse);
    let username = required(&mut violations, "username", &request.username, Username::parse);
    let display_name = required(&mut violations, "display_name", &request.display_name, DisplayName::parse);
    let request_id = optional(&mut violations, "request_id", &request.request_id, RequestId::parse);
    let (Some(user_id), Some(username), Some(display_name), Some(request_id)) =
        (user_id, username, display_name, request_id)
    else {
        return Err(convert::refused(violations));
    };
    let content = ContentHash::of(user_id.as_ref(), &username, &display_name);
    Ok(NewUser {
        user_id: user_id.unwrap_or_else(|| UserId::from_uuid(fresh)),
        username,
        display_name,
        request: request_id.map(|request_id| domain::Request { request_id, content }),
    })
}
