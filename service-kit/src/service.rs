//! The life of a service: bind, migrate, open, serve, drain. The parts that differ are a [`Service`].
//!
//! [`Bound::build`] binds, so that the address is known before anything runs; [`Bound::run`] does the rest. Used by the
//! binaries, by `parlance serve`, which runs both services in one process, and by tests on port 0.

use std::{future::Future, io, net::SocketAddr};

use tokio::net::TcpListener;
use tonic::service::Routes;

use crate::{
    auth::{Authenticator, Mode, Rules},
    config::Problems,
    database::{self, Database, MigrateError, Schema},
    files,
    lifecycle::{BoxError, Fault, Grace, Lifecycle},
    server::{
        self,
        health::Health,
        readiness::{self, Probing},
        reflection,
        tls::Endpoint,
    },
    shared::SharedConfig,
    telemetry::metrics::{self, Metric},
};

/// The most connections to the port for health checks.
const MAX_HEALTH_CONNECTIONS: usize = 128;

/// One service, between its routes and its background tasks.
pub trait Service: Sized + Send + Sync + 'static {
    /// Its settings as values.
    type Config: Clone + Send + Sync + 'static;

    /// The full names of its gRPC services, for health and reflection.
    const SERVICE_NAMES: &'static [&'static str];
    /// Its own metrics.
    const METRICS: &'static [Metric];

    /// Returns the address to listen on.
    fn listen(config: &Self::Config) -> SocketAddr;

    /// Returns the settings that both services share.
    fn shared(config: &Self::Config) -> &SharedConfig;

    /// Returns the TLS of the address to listen on.
    fn endpoint(config: &Self::Config) -> &Endpoint;

    /// Returns the settings of the database.
    fn database(config: &Self::Config) -> &database::Settings;

    /// Returns the rule of each method.
    fn rules() -> Rules;

    /// Returns the schema and its migrations.
    fn schema() -> Schema;

    /// Adds the gRPC services to the routes, and starts the tasks that need no database. The routes alone keep what only
    /// calls use: what works for calls ends after the server.
    ///
    /// # Errors
    /// What is wrong with files of the configuration.
    fn build(
        config: Self::Config,
        authenticator: &Authenticator,
        database: &Database,
        routes: Routes,
        lifecycle: &Lifecycle,
    ) -> Result<(Self, Routes), Problems>;

    /// Reads what calls need from the migrated database. Calls are UNAVAILABLE until then.
    fn open(&self) -> impl Future<Output = Result<(), database::Error>> + Send;

    /// Starts the tasks that need the open database.
    fn start(self, lifecycle: &Lifecycle) -> impl Future<Output = Result<(), database::Error>> + Send;
}

/// An error that kept a service from being built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The address is taken, or does not belong to this machine.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address from the configuration.
        address: SocketAddr,
        /// The error of the system.
        source: io::Error,
    },
}

/// An error that ended a service.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The descriptors of the contract cannot be served by reflection.
    #[error("cannot serve reflection")]
    Reflection(#[source] BoxError),
    /// A file of the configuration cannot be used.
    #[error(transparent)]
    Configuration(#[from] Problems),
    /// A task that should run as long as the process ended.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// An error that kept the database from being opened.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error(transparent)]
    Migrate(#[from] MigrateError),
    #[error("the database is migrated but cannot be used")]
    Open(#[from] database::Error),
}

/// A service that is bound to its address and not running yet.
#[derive(Debug)]
pub struct Bound<S: Service> {
    config: S::Config,
    listener: TcpListener,
    address: SocketAddr,
    /// For health checks without TLS.
    health_listener: Option<TcpListener>,
}

/// Brings the database up to the version of this binary and returns the number of migrations applied.
///
/// # Errors
/// The database cannot be reached, is newer than this binary, or a migration fails.
pub async fn migrate<S: Service>(config: &S::Config) -> Result<usize, MigrateError> {
    database::migrate(S::database(config), &S::schema()).await
}

impl<S: Service> Bound<S> {
    /// Binds the address.
    ///
    /// # Errors
    /// [`BuildError::Bind`] when it is taken.
    pub async fn build(config: S::Config) -> Result<Self, BuildError> {
        let (listener, address) = bind(S::listen(&config)).await?;
        let health_listener = match S::endpoint(&config).health_listen {
            Some(address) => Some(bind(address).await?.0),
            None => None,
        };
        Ok(Self { config, listener, address, health_listener })
    }

    /// Returns the address it listens on: the configured one, with the port that was taken.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the address of health checks without TLS, with the port that was taken.
    pub fn health_address(&self) -> Option<SocketAddr> {
        self.health_listener.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// Serves until `shutdown` completes, then drains. Health is answered from the first moment; other calls are
    /// UNAVAILABLE until the database is reached and migrated.
    ///
    /// # Errors
    /// The database is newer than this binary or refuses it, or a task ends that must not.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
        let Self { config, listener, health_listener, .. } = self;
        let lifecycle = Lifecycle::new();
        let database = Database::new(S::database(&config).clone());
        let health = Health::new(S::SERVICE_NAMES.iter().copied());
        metrics::describe(S::METRICS);

        let routes = Routes::new(health.server());
        let authenticator = Authenticator::start(&S::shared(&config).auth, &lifecycle)?;
        let (service, routes) = S::build(config.clone(), &authenticator, &database, routes, &lifecycle)?;
        let routes = reflection::add_to(routes, &[parlance::FILE_DESCRIPTOR_SET], S::SERVICE_NAMES)
            .map_err(|error| RunError::Reflection(error.into()))?;

        database.watch(&lifecycle);
        health.follow(&lifecycle);
        let tls = S::endpoint(&config).tls.clone();
        let settings = server::Settings {
            tls,
            ..server_settings(S::shared(&config), S::listen(&config), S::rules(), authenticator.clone())
        };
        if let Some(listener) = health_listener {
            let routes = Routes::new(health.server());
            lifecycle.spawn("health server", server::serve(listener, routes, health_settings(), lifecycle.clone()));
        }
        lifecycle.spawn("server", server::serve(listener, routes, settings, lifecycle.clone()));
        let grace = grace(S::shared(&config));
        lifecycle.spawn("start", start(service, config, authenticator, database.clone(), health, lifecycle.clone()));

        let ended = lifecycle.run(shutdown, grace).await;
        database.close().await;
        Ok(ended?)
    }
}

async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), BuildError> {
    let failed = |source| BuildError::Bind { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// Returns the settings of the port for health checks: it has few clients.
fn health_settings() -> server::Settings {
    server::Settings {
        max_connections: MAX_HEALTH_CONNECTIONS,
        max_unary_calls: MAX_HEALTH_CONNECTIONS,
        ..Default::default()
    }
}

/// Migrates and opens the database, then probes it until the process drains.
async fn start<S: Service>(
    service: S,
    config: S::Config,
    authenticator: Authenticator,
    database: Database,
    health: Health,
    lifecycle: Lifecycle,
) -> Result<(), StartError> {
    let opening = open(&service, &config, &database);
    let Some(opened) = lifecycle.draining().run_until_cancelled(opening).await else { return Ok(()) };
    opened?;
    if lifecycle.draining().run_until_cancelled(authenticator.ready()).await.is_none() {
        return Ok(());
    }
    health.set_started();
    service.start(&lifecycle).await?;
    let probing = Probing::default();
    let probed = database.beside_within(probing.timeout * 3 / 4);
    readiness::watch(&health, &lifecycle, probing, move || {
        let (probed, database) = (probed.clone(), database.clone());
        async move { probed.ping().await.inspect_err(|_| database.drop_idle()) }
    });
    lifecycle.draining().cancelled().await;
    Ok(())
}

async fn open<S: Service>(service: &S, config: &S::Config, database: &Database) -> Result<(), StartError> {
    let applied = database::migrate_when_reachable(S::database(config), &S::schema()).await?;
    tracing::info!(applied, "the database is up to date");
    service.open().await?;
    database::warn_of_unsafe_settings(database).await?;
    Ok(())
}

fn server_settings(
    shared: &SharedConfig,
    listen: SocketAddr,
    rules: Rules,
    authenticator: Authenticator,
) -> server::Settings {
    server::Settings {
        max_connections: files::connections(shared.max_connections),
        max_connections_per_address: shared.max_connections_per_address.limit(listen),
        max_streams: shared.max_streams,
        allow_hosts: shared.allow_host.clone(),
        cors_allow_origins: shared.cors_allow_origin.clone(),
        descriptors: vec![parlance::FILE_DESCRIPTOR_SET],
        rules,
        check_host: shared.auth.mode != Mode::Required,
        authenticator,
        ..server::Settings::default()
    }
}

fn grace(shared: &SharedConfig) -> Grace {
    let accept = shared.drain_accept;
    Grace { accept, drain: shared.drain_timeout.saturating_sub(accept), ..Grace::default() }
}
