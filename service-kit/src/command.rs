//! The command line of a service: `serve` (the default), `migrate`, `verify`, `healthcheck`, `token`. The parts that differ are a
//! [`Process`].

use std::{
    ffi::OsString,
    future::Future,
    io::{self, Write},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::{
    causes::causes,
    config::Problems,
    database::Settings,
    files,
    healthcheck::{self, Over},
    lifecycle::{self, BoxError},
    service::{self, Bound, Service},
    telemetry::{self, Telemetry},
    token::{self, TokenArgs},
    verify::{Check, Outcome, Report, ReportArgs},
};

/// One service, as its command line sees it.
pub trait Process {
    /// The service.
    type Service: Service;
    /// Its flags and environment variables, as text.
    type Args: clap::Args;
    /// The flags of its `verify`, besides those that every service has.
    type Verify: clap::Args + Sync;

    /// The name of the binary.
    const NAME: &'static str;
    /// A sentence about it.
    const ABOUT: &'static str;
    /// The default address to listen on.
    const DEFAULT_LISTEN: &'static str;
    /// The checks of its `verify`, in the order of the report.
    const CHECKS: &'static [Check];

    /// Turns text into values.
    ///
    /// # Errors
    /// Everything that is wrong, in one list.
    fn configure(args: &Self::Args) -> Result<ConfigOf<Self>, Problems>;

    /// Checks what is stored, `slice` rows at a time, without changing anything.
    ///
    /// # Errors
    /// Not everything could be checked; what was found until then is in the report.
    fn verify(
        database: &Settings,
        params: &Self::Verify,
        slice: u32,
        report: &mut Report,
    ) -> impl Future<Output = Result<(), BoxError>> + Send;
}

/// The settings of a process as values.
type ConfigOf<P> = <<P as Process>::Service as Service>::Config;

/// Every flag can be set by the environment variable beside it; the flag wins.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Line<A: clap::Args, V: clap::Args> {
    #[command(subcommand)]
    command: Option<Command<A, V>>,

    #[command(flatten)]
    serve: A,
}

/// The flags of a service, without a subcommand.
#[derive(Debug, Parser)]
struct Flags<A: clap::Args> {
    #[command(flatten)]
    args: A,
}

/// Parses the flags of a service alone, for programs and tests that run it in their own process.
///
/// # Errors
/// An unknown flag, or one without its value.
pub fn parse_flags<A: clap::Args>(flags: &[&str]) -> Result<A, clap::Error> {
    let line = ["service"].iter().chain(flags);
    Flags::try_parse_from(line).map(|Flags { args }| args)
}

#[derive(Debug, Subcommand)]
enum Command<A: clap::Args, V: clap::Args> {
    /// Migrate the database, then serve until SIGTERM. The default.
    Serve(A),
    /// Migrate the database, then exit.
    Migrate(A),
    /// Check the stored data for inconsistencies: exit code 0 if there are none, 1 if there are, 2 if it could not be checked.
    /// Changes nothing, and can run while the service is in use.
    Verify(Box<Verify<A, V>>),
    /// Check the health of a running service: exit code 0 if it is serving, 1 if not or if there is no answer within 2 s.
    Healthcheck(HealthcheckArgs),
    Token(Box<TokenArgs>),
}

#[derive(Debug, clap::Args)]
struct Verify<A: clap::Args, V: clap::Args> {
    #[command(flatten)]
    params: V,

    #[command(flatten)]
    how: ReportArgs,

    #[command(flatten)]
    service: A,
}

#[derive(Debug, clap::Args)]
struct HealthcheckArgs {
    /// Address of the service. An unspecified address such as 0.0.0.0 is reached on loopback.
    #[arg(long, env = "LISTEN", value_name = "ADDRESS")]
    listen: String,

    /// Address of the port for health checks, if the service has one. It is asked instead.
    #[arg(long, env = "HEALTH_LISTEN", value_name = "ADDRESS")]
    health_listen: Option<String>,

    /// File with the certificate of the service. If it is set, the service is asked by TLS; the file is not read. A service
    /// that requires client certificates needs --health-listen.
    #[arg(long, env = "TLS_CERT_FILE", value_name = "FILE")]
    tls_cert_file: Option<PathBuf>,
}

/// Makes empty environment variables count as not set: compose files and charts set those of options that they leave out.
/// An argument for which empty is a value is in `except`.
pub fn ignore_empty_variables(command: clap::Command, except: &[&str]) -> clap::Command {
    let is_empty = |argument: &clap::Arg| {
        let value = argument.get_env().and_then(std::env::var_os);
        value.is_some_and(|value| value.is_empty()) && !except.contains(&argument.get_id().as_str())
    };
    let argument = |argument: clap::Arg| if is_empty(&argument) { argument.env(None) } else { argument };
    command.mut_args(argument).mut_subcommands(|command| ignore_empty_variables(command, except))
}

/// Runs the command line of the process, and reports an error on one line. An invalid command line ends the process with a
/// hint.
pub async fn main<P: Process>() -> ExitCode {
    let program = Program { name: P::NAME, about: P::ABOUT, default_listen: P::DEFAULT_LISTEN };
    let line = program.parse(std::env::args_os()).unwrap_or_else(|error| error.exit());
    run::<P>(line).await.unwrap_or_else(|error| {
        complain(P::NAME, &*error);
        ExitCode::FAILURE
    })
}

/// Reports an error to operators, so without a backtrace. A closed standard error is ignored.
fn complain(name: &str, error: &(dyn std::error::Error + 'static)) {
    let _ = writeln!(io::stderr(), "{name}: {}", causes(error));
}

/// The texts of a command line that differ between services.
struct Program {
    name: &'static str,
    about: &'static str,
    default_listen: &'static str,
}

impl Program {
    fn parse<A: clap::Args, V: clap::Args>(
        &self,
        arguments: impl IntoIterator<Item = OsString>,
    ) -> Result<Line<A, V>, clap::Error> {
        let about = format!(
            "{}\n\nWithout a command it serves. Every flag can be set by the environment variable beside it; the \
            flag wins.",
            self.about
        );
        let listen = |healthcheck: clap::Command| {
            healthcheck.mut_arg("listen", |listen| listen.required(false).default_value(self.default_listen))
        };
        let command = Line::<A, V>::command().name(self.name).about(self.about).long_about(about);
        let command = ignore_empty_variables(command.mut_subcommand("healthcheck", listen), &[]);
        let matches = command.try_get_matches_from(arguments)?;
        Line::from_arg_matches(&matches)
    }
}

async fn run<P: Process>(line: Line<P::Args, P::Verify>) -> Result<ExitCode, BoxError> {
    match line.command {
        None => serve::<P>(&line.serve).await,
        Some(Command::Serve(args)) => serve::<P>(&args).await,
        Some(Command::Migrate(args)) => {
            let config = P::configure(&args)?;
            telemetry::logs(&P::Service::shared(&config).telemetry());
            let applied = service::migrate::<P::Service>(&config).await?;
            tracing::info!(applied, "the database is up to date");
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Verify(args)) => Ok(verify::<P>(&args).await.into()),
        Some(Command::Healthcheck(args)) => check(&args).await,
        Some(Command::Token(args)) => token::run(*args, None).await,
    }
}

async fn verify<P: Process>(args: &Verify<P::Args, P::Verify>) -> Outcome {
    match P::configure(&args.service) {
        Ok(config) => {
            telemetry::logs(&P::Service::shared(&config).telemetry());
            check_database::<P>(P::Service::database(&config), &args.params, &args.how).await
        }
        Err(problems) => {
            complain(P::NAME, &problems);
            Outcome::Unchecked
        }
    }
}

/// Checks the stored data of a service: the body of `verify`. Prints the report to standard output, and the reason why not
/// everything could be checked to standard error.
pub async fn check_database<P: Process>(database: &Settings, params: &P::Verify, how: &ReportArgs) -> Outcome {
    let mut report = Report::new(P::NAME, P::CHECKS, how.examples);
    let checked = P::verify(database, params, how.slice, &mut report).await;
    // Problems that were found before an error are reported all the same.
    let printed = if checked.is_ok() || report.problems() > 0 { how.print(&report) } else { Ok(()) };
    if let Err(error) = checked.and_then(|()| Ok(printed?)) {
        complain(&format!("{}: could not check everything", P::NAME), &*error);
        return Outcome::Unchecked;
    }
    if report.problems() == 0 { Outcome::Fine } else { Outcome::Problems }
}

async fn serve<P: Process>(args: &P::Args) -> Result<ExitCode, BoxError> {
    let config = P::configure(args)?;
    let telemetry = Telemetry::start(P::NAME, &P::Service::shared(&config).telemetry()).await?;
    files::raise_limit();
    let end = bind_and_run::<P::Service>(config).await;
    telemetry.end().await;
    end.map(|()| ExitCode::SUCCESS)
}

async fn bind_and_run<S: Service>(config: S::Config) -> Result<(), BoxError> {
    let service = Bound::<S>::build(config).await?;
    Ok(service.run(lifecycle::shutdown_signal()).await?)
}

async fn check(args: &HealthcheckArgs) -> Result<ExitCode, BoxError> {
    let mut problems = Problems::default();
    let (name, text, over) = match &args.health_listen {
        Some(text) => ("--health-listen", text, Over::Plain),
        None if args.tls_cert_file.is_some() => ("--listen", &args.listen, Over::Tls),
        None => ("--listen", &args.listen, Over::Plain),
    };
    let Some(listen) = problems.parse::<SocketAddr>(name, text) else {
        return Err(problems.into());
    };
    // Standard output, since that is what a container runtime keeps.
    match healthcheck::ask_over(over, listen).await {
        Ok(()) => writeln!(io::stdout(), "serving").map(|()| ExitCode::SUCCESS).map_err(Into::into),
        Err(problem) => writeln!(io::stdout(), "{problem}").map(|()| ExitCode::FAILURE).map_err(Into::into),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, clap::Args)]
    struct Args {
        #[arg(long, default_value = "here")]
        listen: String,
    }

    #[derive(Debug, clap::Args)]
    struct All {}

    const PROGRAM: Program = Program { name: "example", about: "Does nothing.", default_listen: "127.0.0.1:7" };

    fn parse(words: &[&str]) -> Result<Line<Args, All>, clap::Error> {
        PROGRAM.parse([PROGRAM.name].iter().chain(words).map(OsString::from))
    }

    fn parsed(words: &[&str]) -> Line<Args, All> {
        parse(words).unwrap()
    }

    #[test]
    fn a_command_takes_the_flags_and_so_does_none() {
        let bare = parsed(&["--listen", "there"]);
        assert!(bare.command.is_none() && bare.serve.listen == "there");
        let migrate = parsed(&["migrate", "--listen", "there"]);
        assert!(matches!(migrate.command, Some(Command::Migrate(args)) if args.listen == "there"));
    }

    #[test]
    fn a_check_takes_the_flags_of_the_service_and_its_own() {
        let verify = parsed(&["verify", "--listen", "there", "--examples", "2", "--json"]);
        let Some(Command::Verify(args)) = verify.command else { panic!("another command") };
        assert!(args.service.listen == "there" && args.how.examples == 2 && args.how.json);
    }

    #[test]
    fn a_health_check_uses_the_default_address() {
        let check = parsed(&["healthcheck"]);
        assert!(matches!(check.command, Some(Command::Healthcheck(args)) if args.listen == "127.0.0.1:7"));
    }

    #[test]
    fn the_help_describes_the_service() {
        let help = parse(&["--help"]).unwrap_err().to_string();
        for part in ["Does nothing.", "Without a command it serves.", "healthcheck", "--listen"] {
            assert!(help.contains(part), "{part} is not in {help}");
        }
    }
}
