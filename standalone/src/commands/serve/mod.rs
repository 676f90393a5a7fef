//! `parlance serve`: a private PostgreSQL, or a given one, and both services in one process.
//!
//! The order of the start is the reverse of the order of the end: PostgreSQL, services, signal, services, PostgreSQL.

mod arguments;
mod page;
mod services;
mod welcome;

use std::process::ExitCode;

use anyhow::Context;
use parlance_standalone::cluster::{Cluster, Options, StopMode};
use service_kit::telemetry::Telemetry;
use sqlx::postgres::PgConnectOptions;
use tokio_util::sync::CancellationToken;

pub(crate) use self::arguments::Arguments;
use self::arguments::{Config, Database};
use self::page::Page;
use self::services::{Services, Wiring};
use self::welcome::Welcome;
use super::signals::Signals;
use crate::say;

/// The private cluster's database.
pub(crate) const DATABASE: &str = "parlance";

/// Runs until a signal, or until something that it cannot do without has failed.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let config = arguments.resolve()?;
    let telemetry = Telemetry::start("parlance", &config.shared).await.map_err(anyhow::Error::from_boxed)?;
    let end = serve(config).await;
    telemetry.end().await;
    end
}

async fn serve(config: Config) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::listen()?;
    let page = Page::bind(config.web).await?;

    let (mut cluster, user_database, message_database, database) = match config.database {
        Database::Given { user, message, shown } => (None, *user, *message, shown),
        Database::Private(options) => {
            let cluster = tokio::select! {
                cluster = start_private(options) => cluster?,
                // Dropping the start takes back what it had begun.
                _ = signals.next() => return Ok(ExitCode::SUCCESS),
            };
            let url: PgConnectOptions = cluster.url(DATABASE).parse()?;
            let database = format!("PostgreSQL {} in {}", cluster.version(), cluster.folder().display());
            (Some(cluster), url.clone(), url, database)
        }
    };

    let (user_listen, message_listen) = (config.user_listen, config.message_listen);
    let (tuning, mut shared) = (config.tuning, config.shared);
    shared.cors_allow_origin.extend(page.iter().flat_map(Page::origins));
    let wiring = Wiring { user_listen, message_listen, user_database, message_database, tuning, shared };
    let services = tokio::select! {
        services = Services::build(wiring) => services?,
        _ = signals.next() => return Ok(ExitCode::SUCCESS),
    };
    let program = std::env::args().next().unwrap_or_else(|| "parlance".to_owned());
    let page_at = page.as_ref().map(Page::address);
    let welcome = Welcome { page: page_at, user: services.user(), message: services.message(), database, program };

    let end = supervise(services, page, welcome, cluster.as_mut(), &mut signals).await;
    if let Some(mut cluster) = cluster {
        tokio::select! {
            () = cluster.stop(StopMode::Fast) => {}
            // Impatient: dropping the cluster stops it the hard way, which loses nothing either.
            _ = signals.next() => {}
        }
    }
    end
}

async fn start_private(options: Options) -> anyhow::Result<Cluster> {
    say::aside("Starting PostgreSQL …");
    let cluster = Cluster::start(options).await?;
    for remark in cluster.remarks() {
        say::aside(remark);
    }
    cluster.create_database(DATABASE).await?;
    Ok(cluster)
}

/// Runs the services until they have drained, and says so once they serve. What ends them: a signal (a second one does not wait for the drain), or
/// the end of PostgreSQL or of one of them, which is an error.
async fn supervise(
    services: Services,
    page: Option<Page>,
    welcome: Welcome,
    mut cluster: Option<&mut Cluster>,
    signals: &mut Signals,
) -> anyhow::Result<ExitCode> {
    let stop = CancellationToken::new();
    let mut ready = Box::pin(services::serving(services.user(), services.message()));
    let mut welcomed = false;
    let (user, message) = (services.user(), services.message());
    let mut running = Box::pin(async {
        let page = async {
            if let Some(page) = page {
                page.run(user, message, stop.clone()).await;
            }
        };
        tokio::join!(services.run(stop.clone()), page).0
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
            ended = &mut running => return ended.context("a service ended").and(end),
            () = &mut ready, if !welcomed => {
                welcomed = true;
                say::out(&welcome);
            }
            _ = signals.next() => {
                if stop.is_cancelled() {
                    say::aside("Not waiting any longer.");
                    return Ok(ExitCode::FAILURE);
                }
                say::aside("Draining … (once more to end it now)");
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
