//! The contract that Parlance began with: the unpackaged `/UserService/GetUser`, answered like `GetUser` of the current one.

use parlance::original::{UserInfo, user_service_server::UserService};
use service_kit::failure::Failure;
use tonic::{Request, Response, Status, async_trait};

use super::{authorise, context::Context, get_user};
use crate::domain::{Refusal, Rpc};

#[async_trait]
impl UserService for Context {
    async fn get_user(&self, request: Request<UserInfo>) -> Result<Response<UserInfo>, Status> {
        Ok(answer(self, request).await.map(Response::new)?)
    }
}

async fn answer(context: &Context, request: Request<UserInfo>) -> Result<UserInfo, Failure> {
    let UserInfo { user_id, username } = request.get_ref();
    // A client may send the name that it expects along with the id: only the id counts.
    let key = get_user::decode(user_id, if user_id.is_empty() { username } else { "" })?;
    let authorised = authorise::caller(context, Rpc::OriginalGetUser, request.extensions()).await?;
    let user = get_user::find(context, authorised, key).await?;
    // This contract has no form for a tombstone.
    let Some(username) = user.username else {
        return Err(Refusal::UserNotFound { user_id: user.user_id }.into());
    };
    Ok(UserInfo { user_id: user.user_id.to_string(), username: username.into_string() })
}
