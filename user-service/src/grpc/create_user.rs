//! `CreateUser`: creates a user, once per request id.

use parlance::user::v1;
use service_kit::{failure::Failure, fields::Fields};
use tonic::Request;
use uuid::Uuid;

use super::{authorise, context::Context, convert, status};
use crate::domain::{self, ContentHash, DisplayName, NewUser, RequestId, Rpc, UserId, Username};

pub(super) async fn answer(context: &Context, request: Request<v1::CreateUserRequest>) -> Result<v1::User, Failure> {
    let new = decode(request.get_ref(), Uuid::now_v7())?;
    let authorised = authorise::caller(context, Rpc::CreateUser, request.extensions()).await?;
    let created = context.store.create_user(authorised, &new).await;
    let created = created.map_err(|error| status::of_write(error, new.request.is_some()))?;
    Ok(convert::user::to_wire(authorised, created.into_user(&new)?))
}

/// `fresh` becomes the id of a user whose request has none.
pub(super) fn decode(request: &v1::CreateUserRequest, fresh: Uuid) -> Result<NewUser, Failure> {
    let mut fields = Fields::default();
    let user_id = fields.optional("user_id", &request.user_id, UserId::parse);
    let username = fields.parse("username", &request.username, Username::parse);
    let display_name = fields.parse("display_name", &request.display_name, DisplayName::parse);
    let request_id = fields.optional("request_id", &request.request_id, RequestId::parse);
    let (user_id, username, display_name, request_id) = fields.finish((user_id, username, display_name, request_id))?;

    let content = ContentHash::of(user_id.as_ref(), &username, &display_name);
    Ok(NewUser {
        user_id: user_id.unwrap_or_else(|| UserId::from_uuid(fresh)),
        username,
        display_name,
        request: request_id.map(|request_id| domain::Request { request_id, content }),
    })
}
