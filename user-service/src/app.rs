//! All wiring of user-service: what is made, in which order it starts, how it ends.
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

pub use service_kit::database::MigrateError;

use crate::{
    Config,
    changes::Changes,
    grpc,
    storage::{self, Lookups, Queue, Store},
    tasks::trim_outbox,
};

/// Queries of merged lookups that may run at a time: one is in flight while the next one is being put together.
const LOOKUP_WORKERS: usize = 2;
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
    database::migrate(&config.database, &storage::schema()).await
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
    /// UNAVAILABLE until the database is reached and migrated.
    ///
    /// # Errors
    /// When the database is newer than this binary or refuses it, or when a task ends that must not.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
        let Self { config, listener, .. } = self;
        let lifecycle = Lifecycle::new();
        let database = Database::new(config.database.clone());
        let store = Store::new(database.clone());
        let (lookups, queue) = Lookups::new(config.database.timeout);
        let health = Health::new(grpc::SERVICE_NAMES);
        let changes = Changes::new();
        let service = grpc::Service::new(store.clone(), lookups, changes.clone());
        let routes = routes(&health, service).map_err(RunError::Reflection)?;

        metrics::describe(crate::metrics::METRICS);
        database.watch(&lifecycle);
        health.follow(&lifecycle);
        work_off(&lifecycle, &queue, &store);
        lifecycle.spawn("changes", changes.look(store.clone(), lifecycle.clone()));
        lifecycle.spawn("server", server::serve(listener, routes, server_settings(&config), lifecycle.clone()));
        lifecycle.spawn("start", start(config.clone(), database.clone(), store, health, lifecycle.clone()));

        let ended = lifecycle.run(shutdown, grace(&config)).await;
        database.close().await;
        Ok(ended?)
    }
}

/// Takes the service: only the server keeps one, so that what works for it ends after it.
fn routes(health: &Health, service: grpc::Service) -> Result<Routes, BoxError> {
    let routes = grpc::add_to(Routes::new(health.server()), service);
    Ok(reflection::add_to(routes, &[parlance::FILE_DESCRIPTOR_SET], &grpc::SERVICE_NAMES)?)
}

/// Lookups are answered until the server, which holds the asking end, is gone.
fn work_off(lifecycle: &Lifecycle, queue: &Queue, store: &Store) {
    for _ in 0..LOOKUP_WORKERS {
        let (queue, store, stages) = (queue.clone(), store.clone(), lifecycle.clone());
        lifecycle.spawn("lookups", async move {
            let work = queue.work(|user_ids| {
                let store = store.clone();
                async move { store.find_users(&user_ids).await }
            });
            stages.killed().run_until_cancelled(work).await;
        });
    }
}

/// Migrates and opens the database, then watches it until the process drains.
async fn start(
    config: Config,
    database: Database,
    store: Store,
    health: Health,
    lifecycle: Lifecycle,
) -> Result<(), StartError> {
    let Some(opened) = lifecycle.draining().run_until_cancelled(open(&config, &database, &store)).await else {
        return Ok(());
    };
    opened?;
    health.set_started();
    lifecycle.spawn("trim outbox", trim_outbox::run(store, lifecycle.clone()));
    readiness::watch(&health, &lifecycle, Probing::default(), move || {
        let database = database.clone();
        async move { database.ping().await }
    });
    lifecycle.draining().cancelled().await;
    Ok(())
}

async fn open(config: &Config, database: &Database, store: &Store) -> Result<(), StartError> {
    let applied = database::migrate_when_reachable(&config.database, &storage::schema()).await?;
    tracing::info!(applied, "the database is up to date");
    store.open().await?;
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
