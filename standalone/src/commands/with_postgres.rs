//! `parlance with-postgres -- COMMAND`: a command with a PostgreSQL of its own, gone when the command is. Tests run
//! under it.

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

/// How long a command may take to end after it was told to.
const PATIENCE: Duration = Duration::from_secs(10);

/// Run a command with a temporary PostgreSQL
///
/// The command finds TEST_DATABASE_URL (a superuser's connection string to the database `postgres`) and PG_BIN_DIR in
/// its environment. Its exit code is ours. The cluster is removed when the command ends, and clusters of runs that were
/// killed are removed at the start of the next.
#[derive(clap::Args)]
#[expect(clippy::doc_markdown, reason = "the help shows the text as it is, back-ticks included")]
pub(crate) struct Arguments {
    /// Stop the cluster but keep its files, and say where they are
    #[arg(long)]
    keep: bool,
    /// The folder of PostgreSQL's programs (initdb, postgres); searched for when not given [env: PG_BIN_DIR]
    #[arg(long)]
    pg_bin_dir: Option<PathBuf>,
    /// The command and its arguments
    #[arg(required = true, last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Runs the command; its exit code, or 128 + the signal that ended it.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::listen()?;
    let mut options = Options::temporary();
    if let Some(folder) = &arguments.pg_bin_dir {
        options = options.bin_dir(folder);
    }
    let cluster = tokio::select! {
        cluster = Cluster::start(options) => cluster?,
        // Dropping the start takes back what it had begun.
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
    // At a terminal the command stays in the foreground, so it can be typed at, and the terminal itself sends Ctrl-C to
    // all of it. Elsewhere it gets a process group, so that a signal to us reaches what it has started, too.
    let is_group = !std::io::stdin().is_terminal();
    if is_group {
        command.process_group(0);
    }
    let mut child = command.spawn().with_context(|| format!("cannot run {}", program.display()))?;
    loop {
        tokio::select! {
            status = child.wait() => return Ok(status?),
            signal = signals.next() => {
                if is_group || signal == Signal::SIGTERM {
                    send(&child, is_group, signal);
                }
                if let Ok(status) = tokio::time::timeout(PATIENCE, child.wait()).await {
                    return Ok(status?);
                }
                send(&child, is_group, Signal::SIGKILL);
            }
        }
    }
}

/// Signals the command, with everything it has started when it has a group of its own. One that has ended is past it.
fn send(child: &Child, is_group: bool, signal: Signal) {
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        let _ = kill(Pid::from_raw(if is_group { -pid } else { pid }), signal);
    }
}

fn code_of_signal(signal: i32) -> ExitCode {
    ExitCode::from((128 + signal) as u8)
}
