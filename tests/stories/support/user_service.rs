//! user-service in this process, on a free port.

use std::net::SocketAddr;

use clap::Parser;
use parlance::{
    original,
    user::v1::{CreateUserRequest, User, user_service_client::UserServiceClient},
};
use service_kit::service::RunError;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic_health::pb::health_check_response::ServingStatus;
use user_service::{App, Args, Config};

use super::{TestDatabase, channel_to, health};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

/// Parses a configuration for tests: a free port, few connections, no drain time. `more` are further flags, none of the
/// preset ones.
pub fn user_service_config(database_url: &str, more: &[&str]) -> Config {
    let flags = ["user-service", "--listen", "127.0.0.1:0", "--database-url", database_url];
    let ending = ["--database-connections", "4", "--drain-accept", "0s", "--drain-timeout", "5s"];
    let line = flags.iter().chain(&ending).chain(more);
    Config::from_args(&Line::try_parse_from(line).unwrap().args).unwrap()
}

/// A running user-service. It is stopped when this value is dropped; [`stop`](Self::stop) waits for it.
pub struct RunningUserService {
    address: SocketAddr,
    channel: Channel,
    shutdown: CancellationToken,
    running: Option<JoinHandle<Result<(), RunError>>>,
}

impl RunningUserService {
    /// Starts it on this database and waits until it serves.
    pub async fn start(database: &TestDatabase) -> Self {
        let service = Self::launch(user_service_config(&database.url(), &[])).await;
        service.wait_until_serving().await;
        service
    }

    /// Starts it and waits for its port only.
    pub async fn launch(config: Config) -> Self {
        let app = App::build(config).await.unwrap();
        let address = app.address();
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(app.run(shutdown.clone().cancelled_owned()));
        Self { address, channel: channel_to(address), shutdown, running: Some(running) }
    }

    /// Returns its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns a connection to it, for any client.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Returns a client of the current contract.
    pub fn users(&self) -> UserServiceClient<Channel> {
        UserServiceClient::new(self.channel())
    }

    /// Returns a client of the legacy contract.
    pub fn original(&self) -> original::user_service_client::UserServiceClient<Channel> {
        original::user_service_client::UserServiceClient::new(self.channel())
    }

    /// Creates a user whose id and name are the same.
    pub async fn create(&self, name: &str) -> User {
        create_user(self.users(), name).await
    }

    /// Checks the health of a name.
    pub async fn health(&self, name: &str) -> Result<ServingStatus, tonic::Status> {
        health::health(self.channel(), name).await
    }

    /// Waits until health reports that the process serves.
    pub async fn wait_until_serving(&self) {
        health::wait_until_serving(&self.channel).await;
    }

    /// Stops it and returns the result of `run`.
    pub async fn stop(mut self) -> Result<(), RunError> {
        self.shutdown.cancel();
        self.ended().await
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> Result<(), RunError> {
        self.running.take().expect("ended only once").await.unwrap()
    }
}

impl Drop for RunningUserService {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// Creates a user with this name as id.
pub async fn create_user(mut users: UserServiceClient<Channel>, name: &str) -> User {
    let request =
        CreateUserRequest { user_id: name.to_owned(), username: name.to_owned(), ..CreateUserRequest::default() };
    users.create_user(request).await.unwrap().into_inner()
}
