//! `RevokeTokens`: makes all tokens void that a user has had so far.

use parlance::user::v1;
use service_kit::{auth::Caller, failure::Failure};
use tonic::Request;

use super::{authorise, context::Context, convert};
use crate::domain::Rpc;

pub(super) async fn answer(
    context: &Context,
    mut request: Request<v1::RevokeTokensRequest>,
) -> Result<v1::User, Failure> {
    let caller = Caller::of(request.extensions());
    caller.name_actor(&mut request.get_mut().user_id)?;
    let user_id = convert::user::only_id(&request.get_ref().user_id)?;
    let authorised = authorise::caller_for(context, Rpc::RevokeTokens, request.extensions(), &user_id).await?;
    let changed = context.store.revoke_tokens(authorised, &user_id).await?;
    Ok(convert::user::to_wire(authorised, changed.into_user(&user_id)?))
}
