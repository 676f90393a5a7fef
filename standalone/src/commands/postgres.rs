//! `parlance postgres`: the private PostgreSQL alone, for whoever runs the services separately or wants to look inside.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use parlance_standalone::cluster::{Cluster, Options, StopMode, url_of_running};

use super::signals::Signals;
use crate::say;

/// Run only the private PostgreSQL of a data folder, until Ctrl-C
///
/// Prints the connection string of the database (the password is in it) on standard output once queries are taken.
#[derive(clap::Args)]
#[expect(clippy::doc_markdown, reason = "the help shows the text as it is, back-ticks included")]
pub(crate) struct Arguments {
    /// The folder that keeps the database; made when it is missing
    #[arg(long, env = "DATA_DIR", default_value = "data")]
    data_dir: PathBuf,
    /// The database to make and to name in the connection string
    #[arg(long, env = "DATABASE", default_value = "parlance")]
    database: String,
    /// The folder of PostgreSQL's programs (initdb, postgres); searched for when not given [env: PG_BIN_DIR]
    #[arg(long)]
    pg_bin_dir: Option<PathBuf>,
    /// Start nothing: print the connection string of the one that runs on the data folder already (under `parlance serve`)
    #[arg(long)]
    running: bool,
}

/// Runs until a signal, or until PostgreSQL ends by itself, which is an error.
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
        // Dropping the start takes back what it had begun.
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
        // Impatient: dropping the cluster stops it the hard way, which loses nothing either.
        _ = signals.next() => {}
    }
    Ok(ExitCode::SUCCESS)
}
