//! `parlance with-postgres -- COMMAND`: runs a command with a temporary PostgreSQL, which is removed when the command ends.
//! Tests run under it.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus};
use std::time::Duration;

use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use parlance_standalone::cluster::{Cluster, Options, StopMode};
use tokio::process::{Child, Command};

use super::signals::Signals;
use crate::say;

/// The time limit for the command to end after a signal.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// Run a command with a temporary PostgreSQL
///
/// The command finds TEST_DATABASE_URL (a superuser's connection string to the database `postgres`) and PG_BIN_DIR in
/// its environment. The exit code is the command's. The cluster is removed when the command ends; clusters of killed runs
/// are removed by the next run.
#[derive(clap::Args)]
#[expect(clippy::doc_markdown, reason = "the help shows the text as it is, back-ticks included")]
pub(crate) struct Arguments {
    /// Stop the cluster but keep its files, and print their folder
    #[arg(long)]
    keep: bool,
    /// The folder of PostgreSQL's programs (initdb, postgres); searched for by default [env: PG_BIN_DIR]
    #[arg(long)]
    pg_bin_dir: Option<PathBuf>,
    /// The command and its arguments
    #[arg(required = true, last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Runs the command and returns its exit code, or 128 + the signal that ended it.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::listen()?;
    let mut options = Options::temporary();
    if let Some(folder) = &arguments.pg_bin_dir {
        options = options.bin_dir(folder);
    }
    let cluster = tokio::select! {
        cluster = Cluster::start(options) => cluster?,
        // Dropping the start stops everything that it has started.
        signal = signals.next() => return Ok(code_of_signal(signal as i32)),
    };
    let status = run_command(&arguments.command, &cluster, &mut signals).await;
    if arguments.keep {
        let kept = cluster.keep().await?;
        say::aside(format_args!("kept: parlance postgres --data-dir {}", kept.display()));
    } else {
        let mut cluster = cluster;
        cluster.stop(StopMode::Immediate).await;
    }
    let status = status?;
    let code = status.code().map(|code| ExitCode::from(code as u8));
    Ok(code.unwrap_or_else(|| code_of_signal(status.signal().unwrap_or_default())))
}

async fn run_command(words: &[OsString], cluster: &Cluster, signals: &mut Signals) -> anyhow::Result<ExitStatus> {
    let (program, arguments) = words.split_first().context("no command was given")?;
    let mut command = Command::new(program);
    command.args(arguments).env("TEST_DATABASE_URL", cluster.url("postgres")).env("PG_BIN_DIR", cluster.bin_dir());
    // At a terminal the command stays in the foreground, so that it can read input and the terminal sends Ctrl-C to all of
    // it. Elsewhere it gets its own process group, so that a signal reaches the processes that it has started, too.
    let is_group = !std::io::stdin().is_terminal();
    if is_group {
        command.process_group(0);
    }
    let mut child = command.spawn().with_context(|| format!("cannot run {}", program.display()))?;
    loop {
        tokio::select! {
            status = child.wait() => return Ok(status?),
            signal = signals.next() => {
                // A terminal sends Ctrl-C to the command itself.
                if is_group || signal != Signal::SIGINT {
                    send(&child, is_group, signal);
                }
                if let Ok(status) = tokio::time::timeout(END_TIMEOUT, child.wait()).await {
                    return Ok(status?);
                }
                send(&child, is_group, Signal::SIGKILL);
            }
        }
    }
}

/// Signals the command, and all processes that it has started if it has its own group. Does nothing if it has ended.
fn send(child: &Child, is_group: bool, signal: Signal) {
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        let _ = kill(Pid::from_raw(if is_group { -pid } else { pid }), signal);
    }
}

fn code_of_signal(signal: i32) -> ExitCode {
    ExitCode::from((128 + signal) as u8)
}
