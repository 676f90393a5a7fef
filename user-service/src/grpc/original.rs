//! The contract that Parlance began with: the unpackaged `/UserService/GetUser`, answered like `GetUser` of the current one.

use parlance::original::{UserInfo, user_service_server::UserService};
use service_kit::failure::Failure;
use tonic::{Request, Response, Status, async_trait};

use super::{context::Context, get_user};
use crate::domain::Refusal;

#[async_trait]
impl UserService for Context {
    async fn get_user(&self, request: Request<UserInfo>) -> Result<Response<UserInfo>, Status> {
        Ok(answer(self, request.get_ref()).await.map(Response::new)?)
    }
}

async fn answer(context: &Context, request: &UserInfo) -> Result<UserInfo, Failure> {
    // A client may send the name that it expects along with the id: only the id counts.
    let username = if request.user_id.is_empty() { request.username.as_str() } else { "" };
    let user = get_user::find(context, get_user::decode(&request.user_id, username)?).await?;
    // This contract has no form for a tombstone.
    let Some(username) = user.username else {
        return Err(Refusal::UserNotFound { user_id: user.user_id }.into());
    };
    Ok(UserInfo { user_id: user.user_id.to_string(), username: username.into_string() })
}
