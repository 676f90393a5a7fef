//! The `parlance-bench` command: measures the running services from outside, as their release binaries.

mod database;
mod delivery;
mod figures;
mod processes;
mod say;

use std::process::ExitCode;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

/// Measures Parlance. Figures are ratios within one run on one machine.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Delivery(delivery::Arguments),
}

#[tokio::main]
async fn main() -> ExitCode {
    let Command::Delivery(arguments) = Arguments::parse().command;
    let done = async { delivery::run(arguments, interrupted()?).await };
    match done.await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say::aside(format_args!("parlance-bench: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Waits for SIGINT or SIGTERM. From the call on they end the work, and not its clearing up.
fn interrupted() -> std::io::Result<impl Future<Output = ()>> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
