//! `ReactivateUser`: lets a deactivated user act again.

use parlance::user::v1;
use service_kit::failure::Failure;
use tonic::Request;

use super::{authorise, convert, service::Service};
use crate::domain::State;

pub(super) async fn answer(
    service: &Service,
    request: Request<v1::ReactivateUserRequest>,
) -> Result<v1::User, Failure> {
    let user_id = convert::only_user_id(&request.get_ref().user_id)?;
    authorise::admin(request.extensions())?;
    let user = service.store.set_user_state(&user_id, State::Active).await?;
    Ok(convert::user(user))
}
