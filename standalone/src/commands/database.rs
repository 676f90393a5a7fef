//! The flags for existing databases and PostgreSQL's programs, which `serve` and `verify` share.

use std::path::PathBuf;

use parlance_standalone::cluster::Options;
use service_kit::config::{Problems, Secret};
use service_kit::database::Address;

#[derive(clap::Args, Debug)]
#[expect(clippy::doc_markdown, reason = "the help shows the text as it is, back-ticks included")]
pub(crate) struct DatabaseArgs {
    /// An existing PostgreSQL for both services, instead of a private one: postgres://USER:PASSWORD@HOST:PORT/DATABASE
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    database_url: Option<Secret>,

    /// An existing PostgreSQL for user-service only; requires one for message-service, too
    #[arg(long, env = "USER_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    user_database_url: Option<Secret>,

    /// An existing PostgreSQL for message-service only; requires one for user-service, too
    #[arg(long, env = "MESSAGE_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    message_database_url: Option<Secret>,

    /// File with the password of existing databases, instead of one in their URLs. It is read again for new connections, so
    /// it can be replaced while the process runs
    #[arg(long, env = "DATABASE_PASSWORD_FILE", value_name = "FILE")]
    database_password_file: Option<PathBuf>,

    /// The folder of PostgreSQL's programs (initdb, postgres); searched for by default [env: PG_BIN_DIR]
    #[arg(long, value_name = "DIR")]
    pg_bin_dir: Option<PathBuf>,
}

/// The existing databases of both services.
pub(super) struct Existing {
    pub(super) user: Address,
    pub(super) message: Address,
}

impl DatabaseArgs {
    /// Parses the URLs of existing databases. Returns `Ok(None)` if there are none, so that a private one is used, and
    /// `Err(())` after adding to `problems`.
    pub(super) fn existing(&self, problems: &mut Problems) -> Result<Option<Existing>, ()> {
        let common = self.database_url.as_ref();
        let user = self.user_database_url.as_ref().or(common);
        let message = self.message_database_url.as_ref().or(common);
        match (user, message) {
            (None, None) => Ok(None),
            (Some(_), Some(_)) => {
                let [user, message] = [("user", user), ("message", message)].map(|(service, url)| {
                    let name = format!("--{service}-database-url or --database-url");
                    problems.database_url(&name, url, self.database_password_file.as_deref())
                });
                user.zip(message).map(|(user, message)| Some(Existing { user, message })).ok_or(())
            }
            (user, _) => {
                let (set, missing) = if user.is_some() { ("user", "message") } else { ("message", "user") };
                problems.add(format!(
                    "--{set}-database-url is set, so --{missing}-database-url is needed, too (or --database-url for both)"
                ));
                Err(())
            }
        }
    }

    /// Adds the folder of PostgreSQL's programs to the options of a private cluster.
    pub(super) fn with_bin_dir(&self, options: Options) -> Options {
        self.pg_bin_dir.iter().fold(options, Options::bin_dir)
    }
}

/// Parses the URL of a private PostgreSQL.
pub(super) fn address(url: &str) -> Result<Address, Problems> {
    let mut problems = Problems::default();
    let address = problems.database_url("the private PostgreSQL", Some(&Secret::new(url)), None);
    problems.finish(address)
}
