//! The command line: `serve` (also when nothing is said), `migrate`, `healthcheck`.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use service_kit::{
    config::Problems,
    healthcheck,
    lifecycle::{self, BoxError},
    telemetry,
};

use crate::{App, Args, Config, app};

/// The conversations of Parlance, over gRPC on PostgreSQL.
///
/// Without a command it serves. Every flag can be given as the environment variable named beside it; a flag wins.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,

    #[command(flatten)]
    serve: Args,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Migrate the database, then serve until SIGTERM. The default.
    Serve(Args),
    /// Migrate the database, then end.
    Migrate(Args),
    /// Ask a running service whether it is serving: exit code 0 when it is, 1 when not or when nobody answers within 2 s.
    Healthcheck(HealthcheckArgs),
}

#[derive(Debug, clap::Args)]
struct HealthcheckArgs {
    /// Where the service listens. An unspecified address such as 0.0.0.0 is asked on loopback.
    #[arg(long, env = "LISTEN", default_value = "127.0.0.1:50052", value_name = "ADDRESS")]
    listen: String,
}

impl Cli {
    /// Runs what the command line says.
    ///
    /// # Errors
    /// What kept the command from doing so, for `main` to print.
    pub async fn run(self) -> Result<ExitCode, BoxError> {
        match self.command {
            None => serve(&self.serve).await,
            Some(Command::Serve(args)) => serve(&args).await,
            Some(Command::Migrate(args)) => migrate(&args).await,
            Some(Command::Healthcheck(args)) => check(&args).await,
        }
    }
}

async fn serve(args: &Args) -> Result<ExitCode, BoxError> {
    let config = configure(args)?;
    let app = App::build(config).await?;
    app.run(lifecycle::shutdown_signal()).await?;
    Ok(ExitCode::SUCCESS)
}

async fn migrate(args: &Args) -> Result<ExitCode, BoxError> {
    let config = configure(args)?;
    let applied = app::migrate(&config).await?;
    tracing::info!(applied, "the database is up to date");
    Ok(ExitCode::SUCCESS)
}

fn configure(args: &Args) -> Result<Config, Problems> {
    let config = Config::from_args(args)?;
    telemetry::init(config.shared.log_format, &config.shared.log_level);
    Ok(config)
}

async fn check(args: &HealthcheckArgs) -> Result<ExitCode, BoxError> {
    let mut problems = Problems::default();
    let Some(listen) = problems.parse("--listen", &args.listen) else {
        return Err(problems.into());
    };
    // Standard output, since that is what a container runtime keeps.
    match healthcheck::ask(listen).await {
        Ok(()) => writeln!(io::stdout(), "serving").map(|()| ExitCode::SUCCESS).map_err(Into::into),
        Err(problem) => writeln!(io::stdout(), "{problem}").map(|()| ExitCode::FAILURE).map_err(Into::into),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_command_takes_the_flags_and_so_does_none() {
        let bare = Cli::try_parse_from(["message-service", "--listen", "127.0.0.1:1"]).unwrap();
        assert!(bare.command.is_none() && bare.serve.listen == "127.0.0.1:1");
        let migrate = Cli::try_parse_from(["message-service", "migrate", "--database-url", "postgres://localhost/x"]);
        assert!(matches!(migrate.unwrap().command, Some(Command::Migrate(args)) if args.database_url.is_some()));
    }
}
