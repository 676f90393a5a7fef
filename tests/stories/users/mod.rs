//! Stories about users: a file for each RPC, then the contract around them, then the lifecycle of the service.

mod batch_get_users;
mod contract;
mod create_user;
mod database_down;
mod deactivate_user;
mod delete_user;
mod get_user;
mod legacy_contract;
mod lifecycle;
mod list_users;
mod provider_ids;
mod update_user;
mod watch_users;

use parlance::user::v1::{GetUserRequest, User};

use crate::support::{RunningUserService, TestDatabase};

/// A user-service on its own database.
struct World {
    service: RunningUserService,
    database: TestDatabase,
}

impl World {
    async fn new() -> Self {
        let database = TestDatabase::migrated().await;
        let service = RunningUserService::start(&database).await;
        Self { service, database }
    }

    async fn get(&self, user_id: &str) -> User {
        self.service.users().get_user(by_id(user_id)).await.unwrap().into_inner()
    }
}

fn by_id(user_id: &str) -> GetUserRequest {
    GetUserRequest { user_id: user_id.to_owned(), ..GetUserRequest::default() }
}

fn by_name(username: &str) -> GetUserRequest {
    GetUserRequest { username: username.to_owned(), ..GetUserRequest::default() }
}
