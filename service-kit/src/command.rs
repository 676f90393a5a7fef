//! The command line of a service: `serve` (the default), `migrate`, `verify`, `healthcheck`. The parts that differ are a
//! [`Process`].

use std::{
    ffi::OsString,
    future::Future,
    io::{self, Write},
    net::SocketAddr,
    process::ExitCode,
};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::{
    config::{Problems, SharedConfig},
    database::Settings,
    healthcheck,
    lifecycle::{self, BoxError},
    service::{self, Bound},
    telemetry::{self, Telemetry},
    verify::{Check, Outcome, Report, ReportArgs},
};

/// A service that runs as a [`service::Bound`], as its command line sees it: a [`Service`] with the rest filled in.
pub trait Process {
    /// The service.
    type Service: service::Service;
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

type ConfigOf<P> = <<P as Process>::Service as service::Service>::Config;

impl<P: Process> Service for P {
    type Args = P::Args;
    type Config = ConfigOf<P>;
    type Verify = P::Verify;

    const NAME: &'static str = P::NAME;
    const ABOUT: &'static str = P::ABOUT;
    const DEFAULT_LISTEN: &'static str = P::DEFAULT_LISTEN;

    fn configure(args: &P::Args) -> Result<ConfigOf<P>, Problems> {
        P::configure(args)
    }

    fn shared(config: &ConfigOf<P>) -> &SharedConfig {
        <P::Service as service::Service>::shared(config)
    }

    async fn serve(config: ConfigOf<P>) -> Result<(), BoxError> {
        let service = Bound::<P::Service>::build(config).await?;
        Ok(service.run(lifecycle::shutdown_signal()).await?)
    }

    async fn migrate(config: &ConfigOf<P>) -> Result<usize, BoxError> {
        Ok(service::migrate::<P::Service>(config).await?)
    }

    fn report(max_examples: usize) -> Report {
        Report::new(P::NAME, P::CHECKS, max_examples)
    }

    fn database(config: &ConfigOf<P>) -> &Settings {
        <P::Service as service::Service>::database(config)
    }

    async fn verify(database: &Settings, params: &P::Verify, slice: u32, report: &mut Report) -> Result<(), BoxError> {
        P::verify(database, params, slice, report).await
    }
}

/// One service, as its command line sees it.
pub trait Service {
    /// Its flags and environment variables, as text.
    type Args: clap::Args;
    /// The same as values.
    type Config: Send + Sync;
    /// The flags of its `verify`, besides those that every service has.
    type Verify: clap::Args + Sync;

    /// The name of the binary.
    const NAME: &'static str;
    /// A sentence about it.
    const ABOUT: &'static str;
    /// The default address to listen on.
    const DEFAULT_LISTEN: &'static str;

    /// Turns text into values.
    ///
    /// # Errors
    /// Everything that is wrong, in one list.
    fn configure(args: &Self::Args) -> Result<Self::Config, Problems>;

    /// Returns the settings that both services share.
    fn shared(config: &Self::Config) -> &SharedConfig;

    /// Migrates, serves, drains.
    fn serve(config: Self::Config) -> impl Future<Output = Result<(), BoxError>> + Send;

    /// Migrates the database and returns the number of migrations applied.
    fn migrate(config: &Self::Config) -> impl Future<Output = Result<usize, BoxError>> + Send;

    /// Returns an empty report of the checks of this service.
    fn report(max_examples: usize) -> Report;

    /// Returns the settings of the database.
    fn database(config: &Self::Config) -> &Settings;

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
}

/// Runs the command line of the process, and reports an error on one line. An invalid command line ends the process with a
/// hint.
pub async fn main<S: Service>() -> ExitCode {
    let line = parse::<S>(std::env::args_os()).unwrap_or_else(|error| error.exit());
    run::<S>(line).await.unwrap_or_else(|error| {
        complain(S::NAME, &*error);
        ExitCode::FAILURE
    })
}

/// Reports an error to operators, so without a backtrace. A closed standard error is ignored.
fn complain(name: &str, error: &(dyn std::error::Error + 'static)) {
    let causes = std::iter::successors(Some(error), |cause| cause.source());
    let texts: Vec<String> = causes.map(ToString::to_string).collect();
    let _ = writeln!(io::stderr(), "{name}: {}", texts.join(": "));
}

fn parse<S: Service>(arguments: impl IntoIterator<Item = OsString>) -> Result<Line<S::Args, S::Verify>, clap::Error> {
    let about = format!(
        "{}\n\nWithout a command it serves. Every flag can be set by the environment variable beside it; the \
        flag wins.",
        S::ABOUT
    );
    let listen = |healthcheck: clap::Command| {
        healthcheck.mut_arg("listen", |listen| listen.required(false).default_value(S::DEFAULT_LISTEN))
    };
    let command = Line::<S::Args, S::Verify>::command().name(S::NAME).about(S::ABOUT).long_about(about);
    let matches = command.mut_subcommand("healthcheck", listen).try_get_matches_from(arguments)?;
    Line::from_arg_matches(&matches)
}

async fn run<S: Service>(line: Line<S::Args, S::Verify>) -> Result<ExitCode, BoxError> {
    match line.command {
        None => serve::<S>(&line.serve).await,
        Some(Command::Serve(args)) => serve::<S>(&args).await,
        Some(Command::Migrate(args)) => {
            let config = S::configure(&args)?;
            telemetry::logs(S::shared(&config));
            let applied = S::migrate(&config).await?;
            tracing::info!(applied, "the database is up to date");
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Verify(args)) => Ok(verify::<S>(&args).await.into()),
        Some(Command::Healthcheck(args)) => check(&args).await,
    }
}

async fn verify<S: Service>(args: &Verify<S::Args, S::Verify>) -> Outcome {
    match S::configure(&args.service) {
        Ok(config) => {
            telemetry::logs(S::shared(&config));
            check_database::<S>(S::database(&config), &args.params, &args.how).await
        }
        Err(problems) => {
            complain(S::NAME, &problems);
            Outcome::Unchecked
        }
    }
}

/// Checks the stored data of a service: the body of `verify`. Prints the report to standard output, and the reason why not
/// everything could be checked to standard error.
pub async fn check_database<S: Service>(database: &Settings, params: &S::Verify, how: &ReportArgs) -> Outcome {
    let mut report = S::report(how.examples);
    let checked = S::verify(database, params, how.slice, &mut report).await;
    // Problems that were found before an error are reported all the same.
    let printed = if checked.is_ok() || report.problems() > 0 { how.print(&report) } else { Ok(()) };
    if let Err(error) = checked.and_then(|()| Ok(printed?)) {
        complain(&format!("{}: could not check everything", S::NAME), &*error);
        return Outcome::Unchecked;
    }
    if report.problems() == 0 { Outcome::Fine } else { Outcome::Problems }
}

async fn serve<S: Service>(args: &S::Args) -> Result<ExitCode, BoxError> {
    let config = S::configure(args)?;
    let telemetry = Telemetry::start(S::NAME, S::shared(&config)).await?;
    let end = S::serve(config).await;
    telemetry.end().await;
    end.map(|()| ExitCode::SUCCESS)
}

async fn check(args: &HealthcheckArgs) -> Result<ExitCode, BoxError> {
    let mut problems = Problems::default();
    let Some(listen) = problems.parse::<SocketAddr>("--listen", &args.listen) else {
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
    use super::*;

    #[derive(Debug, clap::Args)]
    struct Args {
        #[arg(long, default_value = "here")]
        listen: String,
    }

    #[derive(Debug, clap::Args)]
    struct All {}

    struct Nothing;

    impl Service for Nothing {
        type Args = Args;
        type Config = SharedConfig;
        type Verify = All;

        const NAME: &'static str = "nothing";
        const ABOUT: &'static str = "Does nothing.";
        const DEFAULT_LISTEN: &'static str = "127.0.0.1:7";

        fn configure(_: &Args) -> Result<SharedConfig, Problems> {
            Err(Problems::default())
        }

        fn shared(config: &SharedConfig) -> &SharedConfig {
            config
        }

        async fn serve(_: SharedConfig) -> Result<(), BoxError> {
            Ok(())
        }

        async fn migrate(_: &SharedConfig) -> Result<usize, BoxError> {
            Ok(0)
        }

        fn report(max_examples: usize) -> Report {
            Report::new(Self::NAME, &[], max_examples)
        }

        fn database(_: &SharedConfig) -> &Settings {
            unimplemented!("it has none")
        }

        async fn verify(_: &Settings, _: &All, _: u32, _: &mut Report) -> Result<(), BoxError> {
            Ok(())
        }
    }

    fn parsed(words: &[&str]) -> Line<Args, All> {
        parse::<Nothing>(["nothing"].iter().chain(words).map(OsString::from)).unwrap()
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
        let help = parse::<Nothing>(["nothing", "--help"].map(OsString::from)).unwrap_err().to_string();
        for part in ["Does nothing.", "Without a command it serves.", "healthcheck", "--listen"] {
            assert!(help.contains(part), "{part} is not in {help}");
        }
    }
}
