//! message-service in this process, on a free port.

use std::net::SocketAddr;

use clap::Parser;
use message_service::{App, Args, Config};
use parlance::message::v1::{
    conversation_service_client::ConversationServiceClient, message_service_client::MessageServiceClient,
};
use service_kit::service::RunError;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::health_check_response::ServingStatus;

use super::health;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

/// Parses a configuration for tests: a free port, few connections, no drain time. `more` are pairs of flag and value,
/// which take precedence. `user_service` is host and port.
pub fn message_service_config(database_url: &str, user_service: &str, more: &[&str]) -> Config {
    let url = format!("http://{user_service}");
    let usual = [
        ["--listen", "127.0.0.1:0"],
        ["--database-url", database_url],
        ["--user-service-url", &url],
        ["--database-connections", "4"],
        ["--drain-accept", "0s"],
        ["--drain-timeout", "5s"],
    ];
    let presets = usual.iter().filter(|[flag, _]| !more.contains(flag)).flatten();
    let line = ["message-service"].iter().chain(presets).chain(more);
    Config::from_args(&Line::try_parse_from(line).unwrap().args).unwrap()
}

/// A running message-service. It is stopped when this value is dropped; [`stop`](Self::stop) waits for it.
pub struct RunningMessageService {
    address: SocketAddr,
    channel: Channel,
    shutdown: CancellationToken,
    running: Option<JoinHandle<Result<(), RunError>>>,
}

impl RunningMessageService {
    /// Starts it and waits until it serves.
    pub async fn start(config: Config) -> Self {
        let service = Self::launch(config).await;
        service.wait_until_serving().await;
        service
    }

    /// Starts it and waits for its port only.
    pub async fn launch(config: Config) -> Self {
        let app = App::build(config).await.unwrap();
        let address = app.address();
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(app.run(shutdown.clone().cancelled_owned()));
        let channel = channel_to(address);
        Self { address, channel, shutdown, running: Some(running) }
    }

    /// Returns its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns a connection to it, for any client.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Returns a client of conversations.
    pub fn conversations(&self) -> ConversationServiceClient<Channel> {
        ConversationServiceClient::new(self.channel())
    }

    /// Returns a client of messages. It accepts pages of any size: limiting them is the server's task.
    pub fn messages(&self) -> MessageServiceClient<Channel> {
        MessageServiceClient::new(self.channel())
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
        self.running.take().expect("ended only once").await.unwrap()
    }

    /// Starts to stop it without waiting.
    pub fn begin_stop(&self) {
        self.shutdown.cancel();
    }
}

impl Drop for RunningMessageService {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// Returns a connection to an address, opened on first use and reopened after it breaks.
pub fn channel_to(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy()
}
