//! message-service in this process, on a free port.

use std::net::SocketAddr;

use clap::Parser;
use message_service::{App, Args, Config, RunError};
use parlance::message::v1::{
    conversation_service_client::ConversationServiceClient, message_service_client::MessageServiceClient,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use super::{PATIENCE, eventually};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

/// A configuration for tests, as the command line would give it: a free port, few connections, no waiting at the end; and
/// what more is said, in pairs of flag and value, which goes before. `user_service` is host and port.
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
    let said_anyway = usual.iter().filter(|[flag, _]| !more.contains(flag)).flatten();
    let line = ["message-service"].iter().chain(said_anyway).chain(more);
    Config::from_args(&Line::try_parse_from(line).unwrap().args).unwrap()
}

/// A running message-service. Told to end when this value is dropped; [`stop`](Self::stop) waits for it.
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

    /// Starts it without waiting for more than its port.
    pub async fn launch(config: Config) -> Self {
        let app = App::build(config).await.unwrap();
        let address = app.address();
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(app.run(shutdown.clone().cancelled_owned()));
        let channel = channel_to(address);
        Self { address, channel, shutdown, running: Some(running) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A connection to it, for any client.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// A client of conversations.
    pub fn conversations(&self) -> ConversationServiceClient<Channel> {
        ConversationServiceClient::new(self.channel())
    }

    /// A client of messages. It takes pages of any size: what a server sends is not for its client to refuse.
    pub fn messages(&self) -> MessageServiceClient<Channel> {
        MessageServiceClient::new(self.channel())
    }

    /// What health says about a name.
    pub async fn health(&self, name: &str) -> Result<ServingStatus, tonic::Status> {
        let request = HealthCheckRequest { service: name.to_owned() };
        Ok(HealthClient::new(self.channel()).check(request).await?.into_inner().status())
    }

    /// Waits until health says that the process serves.
    pub async fn wait_until_serving(&self) {
        eventually(PATIENCE, || async {
            match self.health("").await {
                Ok(ServingStatus::Serving) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }

    /// Ends it and gives what `run` gave.
    pub async fn stop(mut self) -> Result<(), RunError> {
        self.shutdown.cancel();
        self.running.take().expect("ended only once").await.unwrap()
    }

    /// Begins its end without waiting for it.
    pub fn begin_stop(&self) {
        self.shutdown.cancel();
    }
}

impl Drop for RunningMessageService {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// A connection to an address, made when it is first used and again after it broke.
pub fn channel_to(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy()
}
