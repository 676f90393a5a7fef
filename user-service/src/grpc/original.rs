//! The contract that Parlance began with: the unpackaged `/UserService/GetUser`, answered by the logic of today's.

use parlance::original::{UserInfo, user_service_server::UserService};
use service_kit::failure::Failure;
use tonic::{Request, Response, Status, async_trait};

use super::{get_user, service::Service};
use crate::domain::Refusal;

#[async_trait]
impl UserService for Service {
    async fn get_user(&self, request: Request<UserInfo>) -> Result<Response<UserInfo>, Status> {
        Ok(answer(self, request.get_ref()).await.map(Response::new)?)
    }
}

async fn answer(service: &Service, asked: &UserInfo) -> Result<UserInfo, Failure> {
    // A client may send the name it believes in along with the id: the id alone counts.
    let username = if asked.user_id.is_empty() { asked.username.as_str() } else { "" };
    let user = get_user::find(service, get_user::decode(&asked.user_id, username)?).await?;
    // This contract has no word for a tombstone.
    let Some(username) = user.username else {
        return Err(Refusal::UserNotFound { user_id: user.user_id }.into());
    };
    Ok(UserInfo { user_id: user.user_id.to_string(), username: username.into_string() })
}
