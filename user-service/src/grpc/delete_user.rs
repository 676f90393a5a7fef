//! `DeleteUser`: turns a user into a tombstone.

use parlance::user::v1;
use service_kit::{failure::Failure, fields::Fields};
use tonic::Request;

use super::{authorise, context::Context, convert};
use crate::domain::{Etag, Rpc, UserId};

pub(super) async fn answer(context: &Context, request: Request<v1::DeleteUserRequest>) -> Result<v1::User, Failure> {
    let (user_id, expected) = decode(request.get_ref())?;
    let authorised = authorise::caller(context, Rpc::DeleteUser, request.extensions()).await?;
    let changed = context.store.delete_user(authorised, &user_id, expected).await?;
    Ok(convert::user::to_wire(authorised, changed.into_user(&user_id)?))
}

pub(super) fn decode(request: &v1::DeleteUserRequest) -> Result<(UserId, Option<Etag>), Failure> {
    let mut fields = Fields::default();
    let user_id = fields.parse("user_id", &request.user_id, UserId::parse);
    let expected = fields.optional("etag", &request.etag, convert::etag::parse);
    fields.finish((user_id, expected))
}
