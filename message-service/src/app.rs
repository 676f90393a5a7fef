//! All wiring of message-service: what is made, in which order it starts, how it ends.
//!
//! [`App::build`] binds, so that the address is known before anything runs; [`App::run`] does the rest. Used by the
//! binary, by `parlance serve`, which runs both services in one process, and by tests on port 0.

use std::{future::Future, io, net::SocketAddr};

use service_kit::{
    database::{self, Database},
    lifecycle::{BoxError, Fault, Grace, Lifecycle},
    server::{
        self,
        health::Health,
        readiness::{self, Probing},
        reflection,
    },
    telemetry::metrics,
};
use tokio::net::TcpListener;
use tonic::service::Routes;

use crate::{
    Config,
    bus::{self, Address as BusAddress, Exchange, nats::Nats},
    directory::Directory,
    grpc::{self, Context},
    log::{clock::Clock, live::LiveLogs, pages::Pages, replicas, writer::Writers},
    storage::{Store, migrations},
    tasks::trim_outbox,
};

pub use service_kit::database::MigrateError;

/// Why the service could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The address is taken, or not ours.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address from the configuration.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// Why the service ended other than by being asked to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The descriptors of the contract cannot be served by reflection.
    #[error("cannot serve reflection")]
    Reflection(#[source] BoxError),
    /// A task that should live as long as the process did not.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Why the database could not be made ready.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error(transparent)]
    Migrate(#[from] MigrateError),
    #[error("the database is migrated but cannot be used")]
    Open(#[from] database::Error),
}

/// Where what this replica commits meets what the others do.
#[derive(Debug, Clone)]
struct Meeting {
    live: LiveLogs,
    exchange: Exchange,
}

/// The service, bound to its address and not running yet.
#[derive(Debug)]
pub struct App {
    config: Config,
    listener: TcpListener,
    address: SocketAddr,
}

/// Brings the database up to this binary's version; gives the number of migrations applied.
///
/// # Errors
/// When the database cannot be reached, is newer than this binary, or a migration fails.
pub async fn migrate(config: &Config) -> Result<usize, MigrateError> {
    database::migrate(&config.database, &migrations::schema()).await
}

impl App {
    /// Binds the address.
    ///
    /// # Errors
    /// [`BuildError::Bind`] when it is taken.
    pub async fn build(config: Config) -> Result<Self, BuildError> {
        let failed = |source| BuildError::Bind { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { config, listener, address })
    }

    /// Where it listens: the configured address with the port that was taken.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` completes, then drains. Health is answered from the first moment; everything else is
    /// UNAVAILABLE until the database is reached and migrated. Whether user-service is there makes no difference to that.
    ///
    /// # Errors
    /// When the database is newer than this binary or refuses it, or when a task ends that must not.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
        let Self { config, listener, .. } = self;
        let lifecycle = Lifecycle::new();
        let database = Database::new(config.database.clone());
        let health = Health::new(grpc::SERVICE_NAMES);
        let live = LiveLogs::new(grpc::ENCODE, config.live_log_bytes, Clock::System);
        let meeting = Meeting { live, exchange: Exchange::new(config.bus != BusAddress::Postgres) };
        let context = context(&config, &database, &meeting, &lifecycle);
        let routes = routes(&health, &context).map_err(RunError::Reflection)?;

        metrics::describe(crate::metrics::METRICS);
        database.watch(&lifecycle);
        health.follow(&lifecycle);
        lifecycle.spawn("server", server::serve(listener, routes, server_settings(&config), lifecycle.clone()));
        let start = start(config.clone(), database.clone(), context, meeting, health, lifecycle.clone());
        lifecycle.spawn("start", start);

        let ended = lifecycle.run(shutdown, grace(&config)).await;
        database.close().await;
        Ok(ended?)
    }
}

/// Makes what the RPCs work with, and starts its tasks.
fn context(config: &Config, database: &Database, meeting: &Meeting, lifecycle: &Lifecycle) -> Context {
    let Meeting { live, exchange } = meeting;
    let store = Store::new(database.clone());
    live.watch(lifecycle);
    lifecycle.spawn("live logs", live.clone().sweep(lifecycle.clone()));
    let pages = Pages::new(store.clone(), live.clone());
    let writers = Writers::start(config.writers, &config.database, &store, live, exchange, lifecycle);
    let directory = Directory::start(config.directory.clone(), lifecycle);
    Context::new(store, writers, directory, live.clone(), pages, exchange.clone(), lifecycle.clone())
}

/// The one place where what this process answers is put together.
fn routes(health: &Health, context: &Context) -> Result<Routes, BoxError> {
    let routes = grpc::add_to(Routes::new(health.server()), context);
    Ok(reflection::add_to(routes, &[parlance::FILE_DESCRIPTOR_SET], &grpc::SERVICE_NAMES)?)
}

/// Migrates and opens the database, then watches it until the process drains.
async fn start(
    config: Config,
    database: Database,
    context: Context,
    meeting: Meeting,
    health: Health,
    lifecycle: Lifecycle,
) -> Result<(), StartError> {
    let Some(opened) = lifecycle.draining().run_until_cancelled(open(&config, &database, &context)).await else {
        return Ok(());
    };
    opened?;
    health.set_started();
    let retention = config.outbox_retention;
    let store = Store::new(database.clone());
    lifecycle.spawn("trim outbox", trim_outbox::run(store.clone(), retention, lifecycle.clone()));
    let Meeting { live, exchange } = meeting;
    match &config.bus {
        BusAddress::Postgres => {
            bus::run::start(bus::postgres::PostgresBus::new(&config.database), &exchange, &live, &lifecycle);
        }
        BusAddress::Nats(servers) => {
            let nats = Nats::new(servers.clone(), &store.installation().await?, &exchange);
            bus::run::start(nats, &exchange, &live, &lifecycle);
        }
    }
    lifecycle.spawn("replicas", replicas::follow(store, live, exchange, retention, lifecycle.clone()));
    readiness::watch(&health, &lifecycle, Probing::default(), move || {
        let database = database.clone();
        async move { database.ping().await }
    });
    lifecycle.draining().cancelled().await;
    Ok(())
}

async fn open(config: &Config, database: &Database, context: &Context) -> Result<(), StartError> {
    let applied = database::migrate_when_reachable(&config.database, &migrations::schema()).await?;
    tracing::info!(applied, "the database is up to date");
    context.open().await?;
    database::warn_of_unsafe_settings(database).await?;
    Ok(())
}

fn server_settings(config: &Config) -> server::Settings {
    server::Settings {
        max_connections: config.shared.max_connections,
        cors_allow_origins: config.shared.cors_allow_origin.clone(),
        descriptors: vec![parlance::FILE_DESCRIPTOR_SET],
        ..server::Settings::default()
    }
}

fn grace(config: &Config) -> Grace {
    let accept = config.shared.drain_accept;
    Grace { accept, drain: config.shared.drain_timeout.saturating_sub(accept), ..Grace::default() }
}
