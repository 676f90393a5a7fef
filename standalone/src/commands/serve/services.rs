//! Both services in this process: built in the order in which they need each other, run until told to stop.

use std::{future::Future, net::SocketAddr, time::Duration};

use anyhow::Context;
use service_kit::{config::SharedConfig, healthcheck};
use sqlx::postgres::PgConnectOptions;
use tokio_util::sync::CancellationToken;

/// How often it is asked whether the services have begun to serve.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// What the services need to know.
pub(super) struct Wiring {
    pub(super) user_listen: SocketAddr,
    pub(super) message_listen: SocketAddr,
    pub(super) user_database: PgConnectOptions,
    pub(super) message_database: PgConnectOptions,
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
    pub(super) async fn build(wiring: Wiring) -> anyhow::Result<Self> {
        let Wiring { user_listen, message_listen, user_database, message_database, tuning, shared } = wiring;
        let config = user_service::Config::new(user_listen, user_database, shared.clone());
        let user = user_service::App::build(config).await.context("user-service cannot start")?;
        let user_service = format!("http://{}", healthcheck::reachable(user.address())).parse()?;
        let config = message_service::Config::new(message_listen, message_database, user_service, &tuning, shared);
        let message = message_service::App::build(config).await.context("message-service cannot start")?;
        Ok(Self { user, message })
    }

    /// Where user-service listens.
    pub(super) fn user(&self) -> SocketAddr {
        self.user.address()
    }

    /// Where message-service listens.
    pub(super) fn message(&self) -> SocketAddr {
        self.message.address()
    }

    /// Serves until `stop`, then drains. Ends with the first service that fails, and takes the other one down with it.
    pub(super) async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let user = ending(self.user.run(stop.clone().cancelled_owned()), &stop);
        let message = ending(self.message.run(stop.clone().cancelled_owned()), &stop);
        let (user, message) = tokio::join!(user, message);
        user.context("user-service ended")?;
        message.context("message-service ended")
    }
}

async fn ending<E>(run: impl Future<Output = Result<(), E>>, stop: &CancellationToken) -> Result<(), E> {
    let end = run.await;
    stop.cancel();
    end
}

/// Waits until both services answer that they serve. For ever, if one does not.
pub(super) async fn serving(user: SocketAddr, message: SocketAddr) {
    for address in [user, message] {
        while healthcheck::ask(address).await.is_err() {
            tokio::time::sleep(ASK_EVERY).await;
        }
    }
}
