//! `parlance verify`: checks the stored data of both services, in the private PostgreSQL of a data folder, running or not,
//! or in another PostgreSQL.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use message_service::VerifyArgs as Conversations;
use parlance_standalone::cluster::{Cluster, Error, Options, StopMode, reader_url_of_running};
use service_kit::{
    command::{Process, check_database},
    config::Problems,
    database::{Address, Settings},
    verify::{Outcome, ReportArgs},
};

use super::database::{DatabaseArgs, Existing, address};
use super::serve::DATABASE;
use super::signals::Signals;
use crate::say;

/// The time limit of one read; the services raise it to what their checks need.
const READ_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

/// Check the stored data for gaps, duplicates and other inconsistencies
///
/// Exit code 0: no problems; 1: problems found; 2: the check could not run. Changes nothing, and may run while
/// `parlance serve` runs on the same data folder.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    conversations: Conversations,

    #[command(flatten)]
    report: ReportArgs,

    /// The folder of the private PostgreSQL. Ignored when a database URL is set
    #[arg(long, env = "DATA_DIR", default_value = "data", value_name = "DIR")]
    data_dir: PathBuf,

    #[command(flatten)]
    database: DatabaseArgs,
}

/// Checks both services' tables, or one conversation of message-service.
pub(crate) async fn run(arguments: Arguments) -> ExitCode {
    let checked = check(arguments).await.unwrap_or_else(|error| {
        say::aside(format_args!("parlance: the check could not run: {error:#}"));
        Outcome::Unchecked
    });
    checked.into()
}

async fn check(arguments: Arguments) -> anyhow::Result<Outcome> {
    let mut signals = Signals::listen()?;
    let Arguments { conversations, report, .. } = &arguments;
    let (cluster, user, message) = tokio::select! {
        found = find(&arguments) => found?,
        _ = signals.next() => return Ok(Outcome::Unchecked),
    };
    let both = async {
        let users = match &conversations.conversation_id {
            // user-service has no conversations.
            Some(_) => Outcome::Fine,
            None => {
                check_database::<user_service::Process>(
                    &settings::<user_service::Process>(user),
                    &user_service::VerifyArgs::default(),
                    report,
                )
                .await
            }
        };
        let messages = settings::<message_service::Process>(message);
        users.max(check_database::<message_service::Process>(&messages, conversations, report).await)
    };
    let checked = tokio::select! {
        checked = both => checked,
        _ = signals.next() => Outcome::Unchecked,
    };
    if let Some(mut cluster) = cluster {
        cluster.stop(StopMode::Fast).await;
    }
    Ok(checked)
}

/// Returns the databases of user-service and of message-service, and the private server if it had to be started.
async fn find(arguments: &Arguments) -> anyhow::Result<(Option<Cluster>, Address, Address)> {
    let mut problems = Problems::default();
    let existing = arguments.database.existing(&mut problems);
    problems.into_result()?;
    if let Ok(Some(Existing { user, message })) = existing {
        return Ok((None, user, message));
    }
    let folder = &arguments.data_dir;
    if let Some(url) = reader_url_of_running(folder, DATABASE)? {
        let url = address(&url)?;
        return Ok((None, url.clone(), url));
    }
    match Cluster::start(arguments.database.with_bin_dir(Options::new(folder))).await {
        Ok(cluster) => {
            let url = address(&cluster.reader_url(DATABASE))?;
            Ok((Some(cluster), url.clone(), url))
        }
        Err(Error::InUse { .. }) => {
            let url = reader_url_of_running(folder, DATABASE)?
                .context("its PostgreSQL is just starting or stopping: try again")?;
            let url = address(&url)?;
            Ok((None, url.clone(), url))
        }
        Err(error) => Err(error.into()),
    }
}

fn settings<P: Process>(connect: Address) -> Settings {
    Settings { connect, application_name: P::NAME, connections: 1, timeout: READ_TIMEOUT, plan_anew: true }
}
