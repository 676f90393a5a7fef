//! Both services in this process: built and started in the order of their dependencies, run until they are stopped.

use std::{future::Future, net::SocketAddr, time::Duration};

use anyhow::Context;
use service_kit::{database::Address, healthcheck, shared::SharedConfig};
use tokio_util::sync::CancellationToken;

/// The interval between health checks while the services start.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// The most time that message-service waits for user-service before it starts without it.
const USER_SERVICE_WAIT: Duration = Duration::from_secs(5);

/// The configuration of both services.
pub(super) struct Settings {
    pub(super) user_listen: SocketAddr,
    pub(super) message_listen: SocketAddr,
    pub(super) user_database: Address,
    pub(super) message_database: Address,
    pub(super) tuning: message_service::Tuning,
    pub(super) shared: SharedConfig,
}

/// Both services, bound and not running yet.
pub(super) struct Services {
    user: user_service::App,
    message: message_service::App,
}

impl Services {
    /// Binds both.
    pub(super) async fn build(settings: Settings) -> anyhow::Result<Self> {
        let Settings { user_listen, message_listen, user_database, message_database, tuning, shared } = settings;
        let config = user_service::Config::new(user_listen, user_database, shared.clone());
        let user = user_service::App::build(config).await.context("user-service cannot start")?;
        let user_service = format!("http://{}", healthcheck::reachable(user.address())).parse()?;
        let config = message_service::Config::new(message_listen, message_database, user_service, &tuning, shared);
        let message = message_service::App::build(config).await.context("message-service cannot start")?;
        Ok(Self { user, message })
    }

    /// The address of user-service.
    pub(super) fn user(&self) -> SocketAddr {
        self.user.address()
    }

    /// The address of message-service.
    pub(super) fn message(&self) -> SocketAddr {
        self.message.address()
    }

    /// Serves until `stop`, then drains. When one service fails, the other one is stopped, too.
    pub(super) async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let user_address = self.user();
        let user = stopping(self.user.run(stop.clone().cancelled_owned()), &stop);
        let message = async {
            // Else its first calls to user-service would fail, and log warnings.
            let user_service = tokio::time::timeout(USER_SERVICE_WAIT, serving(user_address));
            let _ = stop.run_until_cancelled(user_service).await;
            self.message.run(stop.clone().cancelled_owned()).await
        };
        let message = stopping(message, &stop);
        let (user, message) = tokio::join!(user, message);
        user.context("user-service ended")?;
        message.context("message-service ended")
    }
}

/// Runs a service, and stops the other one when it ends.
async fn stopping<E>(run: impl Future<Output = Result<(), E>>, stop: &CancellationToken) -> Result<(), E> {
    let end = run.await;
    stop.cancel();
    end
}

/// Waits until the service at this address reports that it is serving.
pub(super) async fn serving(address: SocketAddr) {
    while healthcheck::ask(address).await.is_err() {
        tokio::time::sleep(CHECK_INTERVAL).await;
    }
}
