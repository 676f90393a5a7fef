//! The table of RPCs: each method of `parlance.user.v1.UserService` is in the file named after it.

use parlance::user::v1::{
    BatchGetUsersRequest, BatchGetUsersResponse, CreateTokenRequest, CreateTokenResponse, CreateUserRequest,
    DeactivateUserRequest, DeleteUserRequest, GetUserRequest, ListUsersRequest, ListUsersResponse,
    ReactivateUserRequest, RevokeTokensRequest, UpdateUserRequest, User, WatchUsersRequest,
    user_service_server::UserService,
};
use tonic::{Request, Response, Status, async_trait};

use super::{
    batch_get_users,
    context::Context,
    create_token, create_user, deactivate_user, delete_user, get_user, list_users, reactivate_user, revoke_tokens,
    update_user,
    watch_users::{self, Items},
};

#[async_trait]
impl UserService for Context {
    async fn create_user(&self, request: Request<CreateUserRequest>) -> Result<Response<User>, Status> {
        Ok(create_user::answer(self, request).await.map(Response::new)?)
    }

    async fn get_user(&self, request: Request<GetUserRequest>) -> Result<Response<User>, Status> {
        Ok(get_user::answer(self, request).await.map(Response::new)?)
    }

    async fn batch_get_users(
        &self,
        request: Request<BatchGetUsersRequest>,
    ) -> Result<Response<BatchGetUsersResponse>, Status> {
        Ok(batch_get_users::answer(self, request).await.map(Response::new)?)
    }

    async fn list_users(&self, request: Request<ListUsersRequest>) -> Result<Response<ListUsersResponse>, Status> {
        Ok(list_users::answer(self, request).await.map(Response::new)?)
    }

    async fn update_user(&self, request: Request<UpdateUserRequest>) -> Result<Response<User>, Status> {
        Ok(update_user::answer(self, request).await.map(Response::new)?)
    }

    async fn deactivate_user(&self, request: Request<DeactivateUserRequest>) -> Result<Response<User>, Status> {
        Ok(deactivate_user::answer(self, request).await.map(Response::new)?)
    }

    async fn reactivate_user(&self, request: Request<ReactivateUserRequest>) -> Result<Response<User>, Status> {
        Ok(reactivate_user::answer(self, request).await.map(Response::new)?)
    }

    async fn delete_user(&self, request: Request<DeleteUserRequest>) -> Result<Response<User>, Status> {
        Ok(delete_user::answer(self, request).await.map(Response::new)?)
    }

    async fn create_token(
        &self,
        request: Request<CreateTokenRequest>,
    ) -> Result<Response<CreateTokenResponse>, Status> {
        Ok(create_token::answer(self, request).await.map(Response::new)?)
    }

    async fn revoke_tokens(&self, request: Request<RevokeTokensRequest>) -> Result<Response<User>, Status> {
        Ok(revoke_tokens::answer(self, request).await.map(Response::new)?)
    }

    async fn watch_users(&self, request: Request<WatchUsersRequest>) -> Result<Response<Items>, Status> {
        Ok(watch_users::answer(self, request).await.map(Response::new)?)
    }
}
