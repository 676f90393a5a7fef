//! `parlance serve`: a private or an existing PostgreSQL, and both services in one process.
//!
//! Starts PostgreSQL, then user-service, then message-service; on a signal drains both services, then stops PostgreSQL.

mod arguments;
mod services;
mod web_client;
mod welcome;

use std::io;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use parlance_standalone::cluster::{Cluster, Options, Progress, ServiceUrls, StopMode};
use service_kit::{auth::create_secret, files, telemetry::Telemetry};
use tokio_util::sync::CancellationToken;

pub(crate) use self::arguments::{Arguments, OWN_SECRET};
use self::arguments::{Config, Database};
use self::services::{Services, Settings};
use self::web_client::WebClient;
use self::welcome::{Issuing, Welcome};
use super::database::address;
use super::signals::Signals;
use crate::say;

/// The private cluster's database.
pub(crate) const DATABASE: &str = "parlance";

/// Runs until a signal, or until PostgreSQL or a service has failed.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let config = arguments.resolve()?;
    let telemetry =
        Telemetry::start("parlance", &config.shared.telemetry()).await.map_err(anyhow::Error::from_boxed)?;
    files::raise_limit();
    let end = serve(config).await;
    telemetry.end().await;
    end
}

async fn serve(config: Config) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::listen()?;
    let web_client = WebClient::bind(config.web_client, &config.shared.allow_host).await?;

    let (mut cluster, user_database, message_database, database) = match config.database {
        Database::Existing { user, message, shown } => (None, *user, *message, shown),
        Database::Private(options) => {
            let (cluster, urls) = tokio::select! {
                started = start_private(options) => started?,
                // Dropping the start stops everything that it has started.
                _ = signals.next() => return Ok(ExitCode::SUCCESS),
            };
            let (user, message) = (address(&urls.user_service)?, address(&urls.message_service)?);
            let database = format!("PostgreSQL {} in {}", cluster.version(), cluster.folder().display());
            (Some(cluster), user, message, database)
        }
    };

    if let Some(secret) = &config.new_secret {
        make_secret(secret)?;
    }
    let issuing = Issuing::of(&config.shared.auth);
    let (user_listen, message_listen) = (config.user_listen, config.message_listen);
    let (tuning, mut shared) = (config.tuning, config.shared);
    shared.cors_allow_origin.extend(web_client.iter().flat_map(WebClient::origins));
    let settings = Settings { user_listen, message_listen, user_database, message_database, tuning, shared };
    let services = tokio::select! {
        services = Services::build(settings) => services?,
        _ = signals.next() => return Ok(ExitCode::SUCCESS),
    };
    let program = std::env::args().next().unwrap_or_else(|| "parlance".to_owned());
    let web_address = web_client.as_ref().map(WebClient::address);
    let welcome = Welcome {
        web_client: web_address,
        user: services.user(),
        message: services.message(),
        database,
        program,
        issuing,
    };

    let end = supervise(services, web_client, welcome, cluster.as_mut(), &mut signals).await;
    if let Some(mut cluster) = cluster {
        tokio::select! {
            () = cluster.stop(StopMode::Fast) => {}
            // A second signal: dropping the cluster stops it immediately, which loses nothing either.
            _ = signals.next() => {}
        }
    }
    end
}

/// Makes the token secret of the data folder, unless there is one.
fn make_secret(path: &Path) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create the folder {}", folder.display()))?;
    }
    match create_secret(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.with_context(|| format!("cannot write the token secret {}", path.display())),
    }
}

async fn start_private(options: Options) -> anyhow::Result<(Cluster, ServiceUrls)> {
    say::aside("Starting PostgreSQL …");
    let progress = |progress| match progress {
        Progress::Creating => {
            say::aside("Creating a new PostgreSQL cluster (on the first start only, takes a few seconds) …");
        }
        Progress::Starting(seconds) => say::aside(format!(
            "PostgreSQL is recovering from a crash, for {seconds} s so far; it goes on from where it is …"
        )),
    };
    let cluster = Cluster::start_with(options, progress).await?;
    for remark in cluster.remarks() {
        say::aside(remark);
    }
    cluster.create_database(DATABASE).await?;
    let urls = cluster.create_roles(DATABASE).await?;
    Ok((cluster, urls))
}

/// Runs the services until they have drained, and prints the welcome once they serve. They end on a signal (a second one
/// does not wait for the drain), or when PostgreSQL or one of them fails, which is an error.
async fn supervise(
    services: Services,
    web_client: Option<WebClient>,
    welcome: Welcome,
    mut cluster: Option<&mut Cluster>,
    signals: &mut Signals,
) -> anyhow::Result<ExitCode> {
    let stop = CancellationToken::new();
    let (user, message) = (services.user(), services.message());
    let mut ready = Box::pin(async move {
        services::serving(user).await;
        services::serving(message).await;
    });
    let mut welcomed = false;
    let mut running = Box::pin(async {
        let web_client = async {
            if let Some(web_client) = web_client {
                web_client.run(user, message, stop.clone()).await;
            }
        };
        tokio::join!(services.run(stop.clone()), web_client).0
    });
    let mut end = Ok(ExitCode::SUCCESS);
    loop {
        let database_ends = async {
            match cluster.as_deref_mut() {
                Some(cluster) => cluster.ended().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ended = &mut running => return ended.context("a service failed").and(end),
            () = &mut ready, if !welcomed => {
                welcomed = true;
                say::out(&welcome);
            }
            _ = signals.next() => {
                if stop.is_cancelled() {
                    say::aside("Stopping without waiting for the drain.");
                    return Ok(ExitCode::FAILURE);
                }
                say::aside("Draining … (press Ctrl-C again to stop now)");
                stop.cancel();
            }
            error = database_ends, if end.is_ok() => {
                say::aside(format_args!("parlance: {error}"));
                end = Err(error.into());
                stop.cancel();
            }
        }
    }
}
