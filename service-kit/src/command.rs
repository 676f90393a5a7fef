//! The command line of a service: `serve` (also when nothing is said), `migrate`, `verify`, `healthcheck`. What differs
//! between the services is a [`Service`].

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
    lifecycle::BoxError,
    telemetry::{self, Telemetry},
    verify::{Outcome, Report, ReportArgs},
};

/// One service, as its command line sees it.
pub trait Service {
    /// Its flags and environment variables, as text.
    type Args: clap::Args;
    /// The same as values.
    type Config: Send + Sync;
    /// What its check of a database can be told beside the above.
    type Verify: clap::Args + Sync;

    /// The name of the binary.
    const NAME: &'static str;
    /// What it is, in a sentence.
    const ABOUT: &'static str;
    /// Where it listens unless told otherwise.
    const DEFAULT_LISTEN: &'static str;

    /// Turns text into values.
    ///
    /// # Errors
    /// Everything that is wrong, in one list.
    fn configure(args: &Self::Args) -> Result<Self::Config, Problems>;

    /// What it has in common with other services.
    fn shared(config: &Self::Config) -> &SharedConfig;

    /// Migrates, serves, drains.
    fn serve(config: Self::Config) -> impl Future<Output = Result<(), BoxError>> + Send;

    /// Migrates; gives the number of migrations applied.
    fn migrate(config: &Self::Config) -> impl Future<Output = Result<usize, BoxError>> + Send;

    /// An empty report of this service's checks.
    fn report(max_examples: usize) -> Report;

    /// Where what it has stored is.
    fn database(config: &Self::Config) -> &Settings;

    /// Checks what is stored, `slice` rows at a time, without changing anything.
    ///
    /// # Errors
    /// When it cannot be checked; what was found until then is in the report.
    fn verify(
        database: &Settings,
        what: &Self::Verify,
        slice: u32,
        report: &mut Report,
    ) -> impl Future<Output = Result<(), BoxError>> + Send;
}

/// Every flag can be given as the environment variable named beside it; a flag wins.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Line<A: clap::Args, V: clap::Args> {
    #[command(subcommand)]
    command: Option<Command<A, V>>,

    #[command(flatten)]
    serve: A,
}

#[derive(Debug, Subcommand)]
enum Command<A: clap::Args, V: clap::Args> {
    /// Migrate the database, then serve until SIGTERM. The default.
    Serve(A),
    /// Migrate the database, then end.
    Migrate(A),
    /// Check what is stored for holes, doubles and whatever else cannot be: exit code 0 when there is none, 1 when there is, 2
    /// when it could not be checked. Changes nothing, and may be run while the service is busy.
    Verify(Box<Verify<A, V>>),
    /// Ask a running service whether it is serving: exit code 0 when it is, 1 when not or when nobody answers within 2 s.
    Healthcheck(HealthcheckArgs),
}

#[derive(Debug, clap::Args)]
struct Verify<A: clap::Args, V: clap::Args> {
    #[command(flatten)]
    what: V,

    #[command(flatten)]
    how: ReportArgs,

    #[command(flatten)]
    service: A,
}

#[derive(Debug, clap::Args)]
struct HealthcheckArgs {
    /// Where the service listens. An unspecified address such as 0.0.0.0 is asked on loopback.
    #[arg(long, env = "LISTEN", value_name = "ADDRESS")]
    listen: String,
}

/// Runs what the process's command line says, and says on one line what kept it from doing so. Words that make no sense end
/// the process with a hint.
pub async fn main<S: Service>() -> ExitCode {
    let line = parse::<S>(std::env::args_os()).unwrap_or_else(|error| error.exit());
    run::<S>(line).await.unwrap_or_else(|error| {
        complain(S::NAME, &*error);
        ExitCode::FAILURE
    })
}

/// Without a backtrace: this is for operators. With nobody left to read it there is nobody to tell.
fn complain(name: &str, error: &(dyn std::error::Error + 'static)) {
    let causes = std::iter::successors(Some(error), |cause| cause.source());
    let told: Vec<String> = causes.map(ToString::to_string).collect();
    let _ = writeln!(io::stderr(), "{name}: {}", told.join(": "));
}

fn parse<S: Service>(words: impl IntoIterator<Item = OsString>) -> Result<Line<S::Args, S::Verify>, clap::Error> {
    let about = format!(
        "{}\n\nWithout a command it serves. Every flag can be given as the environment variable named beside \
        it; a flag wins.",
        S::ABOUT
    );
    let listen = |healthcheck: clap::Command| {
        healthcheck.mut_arg("listen", |listen| listen.required(false).default_value(S::DEFAULT_LISTEN))
    };
    let command = Line::<S::Args, S::Verify>::command().name(S::NAME).about(S::ABOUT).long_about(about);
    let matches = command.mut_subcommand("healthcheck", listen).try_get_matches_from(words)?;
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
            check_database::<S>(S::database(&config), &args.what, &args.how).await
        }
        Err(problems) => {
            complain(S::NAME, &problems);
            Outcome::Unchecked
        }
    }
}

/// Checks what a service has stored and tells what was found on standard output, and on standard error why not everything
/// could be checked: the body of `verify`.
pub async fn check_database<S: Service>(database: &Settings, what: &S::Verify, how: &ReportArgs) -> Outcome {
    let mut report = S::report(how.examples);
    let checked = S::verify(database, what, how.slice, &mut report).await;
    // What was found before it broke off is true all the same.
    let told = if checked.is_ok() || report.problems() > 0 { how.tell(&report) } else { Ok(()) };
    if let Err(error) = checked.and_then(|()| Ok(told?)) {
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
    fn a_health_check_asks_where_the_service_listens_by_itself() {
        let check = parsed(&["healthcheck"]);
        assert!(matches!(check.command, Some(Command::Healthcheck(args)) if args.listen == "127.0.0.1:7"));
    }

    #[test]
    fn the_help_says_what_it_is() {
        let help = parse::<Nothing>(["nothing", "--help"].map(OsString::from)).unwrap_err().to_string();
        for part in ["Does nothing.", "Without a command it serves.", "healthcheck", "--listen"] {
            assert!(help.contains(part), "{part} is not in {help}");
        }
    }
}
