//! `DeleteUser`: turns a user into a tombstone.

use parlance::user::v1;
use service_kit::failure::{Failure, Violations};
use tonic::Request;

use super::{
    authorise,
    convert::{self, optional, required},
    service::Service,
};
use crate::domain::{Etag, UserId};

pub(super) async fn answer(service: &Service, request: Request<v1::DeleteUserRequest>) -> Result<v1::User, Failure> {
    let (user_id, expected) = decode(request.get_ref())?;
    authorise::admin(request.extensions())?;
    let user = service.store.delete_user(&user_id, expected).await?;
    Ok(convert::user(user))
}

fn decode(request: &v1::DeleteUserRequest) -> Result<(UserId, Option<Etag>), Failure> {
    let mut violations = Violations::default();
    let user_id = required(&mut violations, "user_id", &request.user_id, UserId::parse);
    let expected = optional(&mut violations, "etag", &request.etag, convert::etag);
    user_id.zip(expected).ok_or_else(|| convert::refused(violations))
}
