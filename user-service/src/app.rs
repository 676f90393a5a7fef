//! The wiring of user-service: its parts and their tasks. `service_kit::service` runs it.

use std::net::SocketAddr;

use service_kit::{
    auth::{Authenticator, Rules},
    config::Problems,
    database::{self, Database, MigrateError, Schema},
    lifecycle::Lifecycle,
    server::tls::Endpoint,
    service::{self, Bound, Service},
    shared::SharedConfig,
    telemetry::metrics::Metric,
};
use tonic::service::Routes;

use crate::{
    Config,
    changes::Changes,
    grpc::{self, Context},
    metrics::METRICS,
    storage::{self, Lookups, Queue, Store},
    tasks::trim_outbox,
};

/// Queries of merged lookups that may run at a time: one is in flight while the next one is gathered.
const LOOKUP_WORKERS: usize = 2;

/// The service, bound to its address and not running yet.
pub type App = Bound<UserService>;

/// The parts of user-service that are needed until it is ready.
#[derive(Debug)]
pub struct UserService {
    store: Store,
}

/// Brings the database up to the version of this binary and returns the number of migrations applied.
///
/// # Errors
/// The database cannot be reached, is newer than this binary, or a migration fails.
pub async fn migrate(config: &Config) -> Result<usize, MigrateError> {
    service::migrate::<UserService>(config).await
}

impl Service for UserService {
    type Config = Config;

    const SERVICE_NAMES: &'static [&'static str] = &grpc::SERVICE_NAMES;
    const METRICS: &'static [Metric] = METRICS;

    fn listen(config: &Config) -> SocketAddr {
        config.listen
    }

    fn shared(config: &Config) -> &SharedConfig {
        &config.shared
    }

    fn endpoint(config: &Config) -> &Endpoint {
        &config.endpoint
    }

    fn database(config: &Config) -> &database::Settings {
        &config.database
    }

    fn rules() -> Rules {
        grpc::rules()
    }

    fn schema() -> Schema {
        storage::schema()
    }

    fn build(
        config: Config,
        authenticator: &Authenticator,
        database: &Database,
        routes: Routes,
        lifecycle: &Lifecycle,
    ) -> Result<(Self, Routes), Problems> {
        let store = Store::new(database.clone());
        let (lookups, queue) = Lookups::new(config.database.timeout);
        let changes = Changes::new();
        start_lookups(lifecycle, &queue, &store);
        lifecycle.spawn("changes", changes.clone().run(store.beside(), lifecycle.clone()));
        // The only sender of lookups, so that the workers end after the server.
        let routes = grpc::add_to(routes, Context::new(store.clone(), lookups, changes, authenticator.issuer()));
        Ok((Self { store }, routes))
    }

    async fn open(&self) -> Result<(), database::Error> {
        self.store.open().await
    }

    async fn start(self, lifecycle: &Lifecycle) -> Result<(), database::Error> {
        lifecycle.spawn("trim outbox", trim_outbox::run(self.store.beside(), lifecycle.clone()));
        Ok(())
    }
}

/// Answers lookups until the server, which holds the sending end, is gone.
fn start_lookups(lifecycle: &Lifecycle, queue: &Queue, store: &Store) {
    for _ in 0..LOOKUP_WORKERS {
        let (queue, store, stages) = (queue.clone(), store.clone(), lifecycle.clone());
        lifecycle.spawn("lookups", async move {
            let work = queue.work(|user_ids| {
                let store = store.clone();
                async move { store.load_users(&user_ids).await }
            });
            stages.killed().run_until_cancelled(work).await;
        });
    }
}
