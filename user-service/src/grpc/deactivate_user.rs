//! `DeactivateUser`: prevents a user from acting.

use parlance::user::v1;
use service_kit::failure::Failure;
use tonic::Request;

use super::{authorise, context::Context, convert};
use crate::domain::{Rpc, UserState};

pub(super) async fn answer(
    context: &Context,
    request: Request<v1::DeactivateUserRequest>,
) -> Result<v1::User, Failure> {
    let user_id = convert::user::only_id(&request.get_ref().user_id)?;
    let authorised = authorise::caller(context, Rpc::DeactivateUser, request.extensions()).await?;
    let changed = context.store.set_user_state(authorised, &user_id, UserState::Deactivated).await?;
    Ok(convert::user::to_wire(authorised, changed.into_user(&user_id)?))
}
