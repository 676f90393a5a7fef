//! The `parlance-bench` command: measures the release binaries of the services from the outside.

mod database;
mod delivery;
mod figures;
mod processes;
mod say;

use std::process::ExitCode;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

/// Measure Parlance. Compare figures only as ratios within one run on one machine.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
enum Command {
    Delivery(delivery::Arguments),
}

#[tokio::main]
async fn main() -> ExitCode {
    let Command::Delivery(arguments) = Command::parse();
    let done = async { delivery::run(arguments, interrupted()?).await };
    match done.await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say::aside(format_args!("parlance-bench: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Waits for SIGINT or SIGTERM, which from this call on interrupt the measurement but not the cleanup.
fn interrupted() -> std::io::Result<impl Future<Output = ()>> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
