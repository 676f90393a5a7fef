//! `parlance verify`: whether what both services have stored is whole; in the private PostgreSQL of a data folder, running or
//! not, or in a given one.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use message_service::VerifyArgs as Conversations;
use parlance_standalone::cluster::{Cluster, Error, Options, StopMode, url_of_running};
use service_kit::{
    command::{Service, check_database},
    config::{Problems, Secret},
    database::Settings,
    verify::{Outcome, ReportArgs},
};
use sqlx::postgres::PgConnectOptions;

use super::serve::DATABASE;
use super::signals::Signals;
use crate::say;

/// The longest one read may take before it counts as failed; the services raise it to what their checks need.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

/// Check what is stored for holes, doubles and whatever else cannot be
///
/// Exit code 0 when there is none, 1 when there is, 2 when it could not be checked. Changes nothing, and may be run while
/// `parlance serve` is busy on the same data folder.
#[derive(clap::Args)]
#[expect(clippy::doc_markdown, reason = "the help shows the text as it is, back-ticks included")]
pub(crate) struct Arguments {
    #[command(flatten)]
    conversations: Conversations,

    #[command(flatten)]
    how: ReportArgs,

    /// The folder that keeps the private PostgreSQL. Not looked at when a database is given
    #[arg(long, env = "DATA_DIR", default_value = "data", value_name = "DIR")]
    data_dir: PathBuf,

    /// The PostgreSQL of both services: postgres://USER:PASSWORD@HOST:PORT/DATABASE
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    database_url: Option<Secret>,

    /// The same for user-service alone; then message-service needs one, too
    #[arg(long, env = "USER_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    user_database_url: Option<Secret>,

    /// The same for message-service alone; then user-service needs one, too
    #[arg(long, env = "MESSAGE_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    message_database_url: Option<Secret>,

    /// The folder of PostgreSQL's programs (initdb, postgres); searched for when not given [env: PG_BIN_DIR]
    #[arg(long, value_name = "DIR")]
    pg_bin_dir: Option<PathBuf>,
}

/// Checks both services' tables, or one conversation of message-service.
pub(crate) async fn run(arguments: Arguments) -> ExitCode {
    let checked = check(arguments).await.unwrap_or_else(|error| {
        say::aside(format_args!("parlance: could not check anything: {error:#}"));
        Outcome::Unchecked
    });
    checked.into()
}

async fn check(arguments: Arguments) -> anyhow::Result<Outcome> {
    let mut signals = Signals::listen()?;
    let Arguments { conversations, how, .. } = &arguments;
    let (cluster, user, message) = tokio::select! {
        found = find(&arguments) => found?,
        _ = signals.next() => return Ok(Outcome::Unchecked),
    };
    let both = async {
        let users = match &conversations.conversation_id {
            // Conversations are nothing to user-service.
            Some(_) => Outcome::Fine,
            None => {
                check_database::<user_service::Process>(
                    &settings::<user_service::Process>(user),
                    &user_service::VerifyArgs::default(),
                    how,
                )
                .await
            }
        };
        let messages = settings::<message_service::Process>(message);
        users.max(check_database::<message_service::Process>(&messages, conversations, how).await)
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

/// The databases of user-service and of message-service, and the private server if it had to be started for this.
async fn find(arguments: &Arguments) -> anyhow::Result<(Option<Cluster>, PgConnectOptions, PgConnectOptions)> {
    let common = arguments.database_url.as_ref();
    let user = arguments.user_database_url.as_ref().or(common);
    let message = arguments.message_database_url.as_ref().or(common);
    if user.is_some() || message.is_some() {
        let mut problems = Problems::default();
        let [user, message] = [("user", user), ("message", message)]
            .map(|(service, url)| problems.database_url(&format!("--{service}-database-url or --database-url"), url));
        problems.into_result()?;
        return Ok((None, user.context("no database")?, message.context("no database")?));
    }
    let folder = &arguments.data_dir;
    if let Some(url) = url_of_running(folder, DATABASE)? {
        let url: PgConnectOptions = url.parse()?;
        return Ok((None, url.clone(), url));
    }
    let options = arguments.pg_bin_dir.iter().fold(Options::new(folder), Options::bin_dir);
    match Cluster::start(options).await {
        Ok(cluster) => {
            let url: PgConnectOptions = cluster.url(DATABASE).parse()?;
            Ok((Some(cluster), url.clone(), url))
        }
        Err(Error::InUse { .. }) => {
            let url =
                url_of_running(folder, DATABASE)?.context("its PostgreSQL is just starting or ending: try again")?;
            let url: PgConnectOptions = url.parse()?;
            Ok((None, url.clone(), url))
        }
        Err(error) => Err(error.into()),
    }
}

fn settings<S: Service>(connect: PgConnectOptions) -> Settings {
    Settings { connect, application_name: S::NAME, connections: 1, timeout: PATIENCE, plan_anew: true }
}
