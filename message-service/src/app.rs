//! The wiring of message-service: its parts and their tasks. `service_kit::service` runs it.

use std::net::SocketAddr;

use service_kit::{
    auth::{Authenticator, Role, Rules, SelfToken},
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
    bus::{self, Address as BusAddress, Exchange, Seal, nats::Nats, postgres::PostgresBus},
    directory::Directory,
    grpc::{self, Context},
    log::{clock::Clock, live::LiveLogs, pages::Pages, replicas, writer::Writers},
    metrics::METRICS,
    storage::{Store, migrations},
    tasks::trim_outbox,
};

/// The service, bound to its address and not running yet.
pub type App = Bound<MessageService>;

/// The parts of message-service that are needed until it is ready.
#[derive(Debug)]
pub struct MessageService {
    config: Config,
    context: Context,
    store: Store,
    live: LiveLogs,
    exchange: Exchange,
}

/// Brings the database up to the version of this binary and returns the number of migrations applied.
///
/// # Errors
/// The database cannot be reached, is newer than this binary, or a migration fails.
pub async fn migrate(config: &Config) -> Result<usize, MigrateError> {
    service::migrate::<MessageService>(config).await
}

impl Service for MessageService {
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
        migrations::schema()
    }

    fn build(
        config: Config,
        authenticator: &Authenticator,
        database: &Database,
        routes: Routes,
        lifecycle: &Lifecycle,
    ) -> Result<(Self, Routes), Problems> {
        let store = Store::new(database.clone());
        let live = LiveLogs::new(grpc::ENCODE, config.live_log_bytes, Clock::System);
        let exchange = Exchange::new(config.bus != BusAddress::Postgres);
        live.watch(lifecycle);
        lifecycle.spawn("live logs", live.clone().sweep(lifecycle.clone()));
        lifecycle.spawn("wake subscribers", live.clone().wake(lifecycle.clone()));
        let pages = Pages::new(store.clone(), live.clone());
        let writers = Writers::start(config.writers, &store, &live, &exchange, lifecycle);
        let directory =
            Directory::start(config.directory.clone(), own_token(&config, authenticator, lifecycle)?, lifecycle);
        let (live_too, exchange_too, store_too) = (live.clone(), exchange.clone(), store.clone());
        let context = Context::new(store_too, writers, directory, live_too, pages, exchange_too, lifecycle.clone());
        let routes = grpc::add_to(routes, &context);
        Ok((Self { config, context, store, live, exchange }, routes))
    }

    async fn open(&self) -> Result<(), database::Error> {
        self.live.enter(&self.store.enter_epoch().await?);
        self.context.open().await
    }

    async fn start(self, lifecycle: &Lifecycle) -> Result<(), database::Error> {
        let Self { config, store, live, exchange, .. } = self;
        let retention = config.outbox_retention;
        lifecycle.spawn("trim outbox", trim_outbox::run(store.beside(), retention, lifecycle.clone()));
        let of_epoch = live.clone();
        let seal = Seal::new(&store.page_token_key().await?, move || of_epoch.epoch_name());
        match &config.bus {
            BusAddress::Postgres => {
                bus::run::start(PostgresBus::new(store.database(), seal), &exchange, &live, lifecycle);
            }
            BusAddress::Nats(servers) => {
                let nats = Nats::new(servers.clone(), &store.installation().await?, seal, &exchange);
                bus::run::start(nats, &exchange, &live, lifecycle);
            }
        }
        lifecycle.spawn("replicas", replicas::follow(store.beside(), live, exchange, retention, lifecycle.clone()));
        Ok(())
    }
}

/// Returns the token by which this service calls user-service: that of a file, or one that it signs for itself.
fn own_token(
    config: &Config,
    authenticator: &Authenticator,
    lifecycle: &Lifecycle,
) -> Result<Option<SelfToken>, Problems> {
    if let Some(file) = &config.user_service_token_file {
        return SelfToken::read(file.clone(), lifecycle).map(Some).map_err(|problem| {
            let mut problems = Problems::default();
            problems.add(format!("--user-service-token-file: {problem}"));
            problems
        });
    }
    let signed = |issuer| SelfToken::signed(issuer, "message-service", Role::Directory);
    Ok(authenticator.issuer().map(signed))
}
