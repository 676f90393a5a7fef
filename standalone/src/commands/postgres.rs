//! `parlance postgres`: the private PostgreSQL alone, for running the services separately or inspecting the database.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use parlance_standalone::cluster::{Cluster, Options, StopMode, url_of_running};

use super::signals::Signals;
use crate::say;

/// Run only the private PostgreSQL of a data folder, until Ctrl-C
///
/// Prints the connection string of the database, password included, on standard output once it accepts queries.
#[derive(clap::Args)]
#[expect(clippy::doc_markdown, reason = "the help shows the text as it is, back-ticks included")]
pub(crate) struct Arguments {
    /// The folder of the database; created if missing
    #[arg(long, env = "DATA_DIR", default_value = "data")]
    data_dir: PathBuf,
    /// The database to create and to name in the connection string
    #[arg(long, env = "DATABASE", default_value = "parlance")]
    database: String,
    /// The folder of PostgreSQL's programs (initdb, postgres); searched for by default [env: PG_BIN_DIR]
    #[arg(long)]
    pg_bin_dir: Option<PathBuf>,
    /// Start nothing: print the connection string of the server that runs on the data folder already (under `parlance serve`)
    #[arg(long)]
    running: bool,
}

/// Runs until a signal, or until PostgreSQL exits unexpectedly, which is an error.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    if arguments.running {
        let url = url_of_running(&arguments.data_dir, &arguments.database)?;
        say::out(url.with_context(|| format!("no PostgreSQL runs on {}", arguments.data_dir.display()))?);
        return Ok(ExitCode::SUCCESS);
    }
    let mut signals = Signals::listen()?;
    let mut options = Options::new(&arguments.data_dir);
    if let Some(folder) = arguments.pg_bin_dir {
        options = options.bin_dir(folder);
    }
    let started = async {
        let cluster = Cluster::start(options).await?;
        cluster.create_database(&arguments.database).await?;
        Ok::<_, anyhow::Error>(cluster)
    };
    let mut cluster = tokio::select! {
        cluster = started => cluster?,
        // Dropping the start stops everything that it has started.
        _ = signals.next() => return Ok(ExitCode::SUCCESS),
    };
    for remark in cluster.remarks() {
        say::aside(remark);
    }
    say::aside(format_args!("PostgreSQL {} in {}, until Ctrl-C", cluster.version(), cluster.folder().display()));
    say::out(cluster.url(&arguments.database));
    tokio::select! {
        error = cluster.ended() => return Err(error.into()),
        _ = signals.next() => {}
    }
    tokio::select! {
        () = cluster.stop(StopMode::Fast) => {}
        // A second signal: dropping the cluster stops it immediately, which loses nothing either.
        _ = signals.next() => {}
    }
    Ok(ExitCode::SUCCESS)
}
