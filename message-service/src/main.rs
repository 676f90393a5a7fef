//! The process: parses the command line, runs it, and says on one line what kept it from doing so.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Parser;

#[tokio::main]
async fn main() -> ExitCode {
    message_service::Cli::parse().run().await.unwrap_or_else(|error| {
        // Without a backtrace: this is for operators. With nobody left to read it there is nobody to tell.
        let _ = writeln!(io::stderr(), "message-service: {:#}", anyhow::Error::from_boxed(error));
        ExitCode::FAILURE
    })
}
