//! The `parlance` command: `serve`, `chat`, `verify`, `postgres`, `with-postgres`.

mod commands;
mod say;

use std::process::ExitCode;

use clap::Parser;

/// A self-hosted chat backend that speaks gRPC and needs nothing but PostgreSQL.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
enum Command {
    Serve(Box<commands::serve::Arguments>),
    Chat(commands::chat::Arguments),
    Verify(commands::verify::Arguments),
    Postgres(commands::postgres::Arguments),
    WithPostgres(commands::with_postgres::Arguments),
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Command::parse() {
        Command::Serve(arguments) => commands::serve::run(*arguments).await,
        Command::Chat(arguments) => commands::chat::run(arguments).await,
        Command::Verify(arguments) => Ok(commands::verify::run(arguments).await),
        Command::Postgres(arguments) => commands::postgres::run(arguments).await,
        Command::WithPostgres(arguments) => commands::with_postgres::run(arguments).await,
    };
    done.unwrap_or_else(|error| {
        say::aside(format_args!("parlance: {error:#}"));
        ExitCode::FAILURE
    })
}
