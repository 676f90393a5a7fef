//! The `parlance` command: `serve`, `chat`, `token`, `verify`, `postgres`, `with-postgres`.

mod commands;
mod say;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser};
use service_kit::command::ignore_empty_variables;

/// A self-hosted chat backend that speaks gRPC and needs nothing but PostgreSQL.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
enum Command {
    Serve(Box<commands::serve::Arguments>),
    Chat(commands::chat::Arguments),
    Token(Box<commands::token::Arguments>),
    Verify(commands::verify::Arguments),
    Postgres(commands::postgres::Arguments),
    WithPostgres(commands::with_postgres::Arguments),
}

#[tokio::main]
async fn main() -> ExitCode {
    // An empty address disables the web client.
    let command = ignore_empty_variables(Command::command(), &["web_listen"]);
    let parsed = Command::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit());
    let done = match parsed {
        Command::Serve(arguments) => commands::serve::run(*arguments).await,
        Command::Chat(arguments) => commands::chat::run(arguments).await,
        Command::Token(arguments) => commands::token::run(*arguments).await,
        Command::Verify(arguments) => Ok(commands::verify::run(arguments).await),
        Command::Postgres(arguments) => commands::postgres::run(arguments).await,
        Command::WithPostgres(arguments) => commands::with_postgres::run(arguments).await,
    };
    done.unwrap_or_else(|error| {
        say::aside(format_args!("parlance: {error:#}"));
        ExitCode::FAILURE
    })
}
