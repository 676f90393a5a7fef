//! The settings of `parlance serve`: flags, or environment variables of the same names in capitals. They arrive as text;
//! [`Arguments::resolve`] parses them and reports all problems at once.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use parlance_standalone::cluster::Options;
use service_kit::config::Problems;
use service_kit::database::Address;
use service_kit::shared::{SharedArgs, SharedConfig};

use super::web_client::Binding;
use crate::commands::database::{DatabaseArgs, Existing};

/// Connections beyond the services' pools and writers: migrations, two for the bus, four of each service beside its pool, and
/// some for the operator.
const SPARE_CONNECTIONS: u32 = 30;

/// The token secret in the data folder.
pub(crate) const OWN_SECRET: &str = "token-secret";

/// The default address of the web client.
const DEFAULT_WEB_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// Run everything: a private PostgreSQL, user-service and message-service
///
/// One process for development and small installations. Ctrl-C, SIGTERM or SIGHUP drains the services, then stops PostgreSQL; a
/// second one stops without draining. Only the data folder remains.
#[derive(clap::Args, Debug)]
// No load balancer needs time to notice that this process drains.
#[command(mut_arg("drain_accept", |argument| argument.default_value("0s")))]
#[expect(clippy::doc_markdown, reason = "the help shows the text as it is, back-ticks included")]
pub(crate) struct Arguments {
    /// The folder of the private PostgreSQL; created if missing. Ignored when a database URL is set
    #[arg(long, env = "DATA_DIR", default_value = "data", value_name = "DIR")]
    data_dir: PathBuf,

    /// Address that user-service listens on; port 0 picks a free port
    #[arg(long, env = "USER_LISTEN", default_value = "127.0.0.1:50051", value_name = "ADDRESS")]
    user_listen: String,

    /// Address that message-service listens on; port 0 picks a free port
    #[arg(long, env = "MESSAGE_LISTEN", default_value = "127.0.0.1:50052", value_name = "ADDRESS")]
    message_listen: String,

    /// Address of the web client; port 0 picks a free port, `off` or an empty value disables it. Default: 127.0.0.1:8080, or
    /// disabled if that is in use. Beyond loopback, the web client's origin needs --cors-allow-origin, too
    #[arg(long, env = "WEB_LISTEN", value_name = "ADDRESS")]
    web_listen: Option<String>,

    /// Disable the web client; overrides --web-listen
    #[arg(long)]
    no_web: bool,

    #[command(flatten)]
    database: DatabaseArgs,

    /// A setting of the private PostgreSQL, such as shared_buffers=512MB; may be repeated
    #[arg(long, env = "POSTGRES_SETTING", value_name = "NAME=VALUE")]
    postgres_setting: Vec<String>,

    #[command(flatten)]
    tuning: message_service::TuningArgs,

    #[command(flatten)]
    shared: SharedArgs,
}

/// The parsed [`Arguments`].
#[derive(Debug)]
pub(super) struct Config {
    /// The address that user-service listens on.
    pub(super) user_listen: SocketAddr,
    /// The address that message-service listens on.
    pub(super) message_listen: SocketAddr,
    /// The address of the web client.
    pub(super) web_client: Binding,
    /// The database.
    pub(super) database: Database,
    /// The settings of message-service only.
    pub(super) tuning: message_service::Tuning,
    /// The settings that both services share.
    pub(super) shared: SharedConfig,
    /// The token secret to make if it is missing.
    pub(super) new_secret: Option<PathBuf>,
}

/// The database of the services. Its `Debug` output contains no password.
pub(super) enum Database {
    /// A private PostgreSQL.
    Private(Options),
    /// An existing PostgreSQL.
    Existing {
        /// The database of user-service.
        user: Box<Address>,
        /// The database of message-service.
        message: Box<Address>,
        /// Both for display: host, port and name, without password.
        shown: String,
    },
}

impl fmt::Debug for Database {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Private(options) => formatter.debug_tuple("Private").field(options).finish(),
            Self::Existing { shown, .. } => formatter.debug_tuple("Existing").field(shown).finish(),
        }
    }
}

impl Arguments {
    /// Parses and checks all settings. Errors: all problems, one line each.
    pub(super) fn resolve(mut self) -> Result<Config, Problems> {
        let mut problems = Problems::default();
        let new_secret = self.use_own_secret();
        let shared = self.shared.parse(&mut problems);
        let user_listen = self.shared.listen("--user-listen", &self.user_listen, &mut problems);
        let message_listen = self.shared.listen("--message-listen", &self.message_listen, &mut problems);
        if let (Some(user), Some(message)) = (user_listen, message_listen)
            && user == message
            && user.port() != 0
        {
            problems.add(format!("--user-listen and --message-listen are both {user}: give each its own port"));
        }
        let web_client = self.web_client([user_listen, message_listen], &mut problems);
        let tuning = self.tuning.parse(&mut problems);
        let database = self.database(tuning.as_ref(), shared.as_ref(), &mut problems);
        let (user_listen, message_listen, web_client, database, tuning, shared) =
            problems.finish((user_listen, message_listen, web_client, database, tuning, shared))?;
        Ok(Config { user_listen, message_listen, web_client, database, tuning, shared, new_secret })
    }

    /// Demands tokens of the secret in the data folder, where tokens are demanded and nothing says whose.
    fn use_own_secret(&mut self) -> Option<PathBuf> {
        let auth = &mut self.shared.auth;
        let demands = auth.auth.as_deref().map(str::trim).is_some_and(|mode| !matches!(mode, "" | "off"));
        if !demands || auth.has_source() {
            return None;
        }
        let own = self.data_dir.join(OWN_SECRET);
        auth.token_secret_file.push(own.to_string_lossy().into_owned());
        Some(own)
    }

    fn web_client(&self, services: [Option<SocketAddr>; 2], problems: &mut Problems) -> Option<Binding> {
        let is_of_a_service = |port: u16| services.iter().flatten().any(|service| service.port() == port);
        match self.web_listen.as_deref().map(str::trim) {
            _ if self.no_web => Some(Binding::Disabled),
            Some("" | "off") => Some(Binding::Disabled),
            // A service listens on the default port.
            None if is_of_a_service(DEFAULT_WEB_LISTEN.port()) => Some(Binding::Disabled),
            None => Some(Binding::IfFree(DEFAULT_WEB_LISTEN)),
            Some(text) => {
                let address = self.shared.listen("--web-listen", text, problems)?;
                if address.port() != 0 && services.contains(&Some(address)) {
                    problems.add(format!("--web-listen is {address}, where a service listens: give it its own port"));
                }
                Some(Binding::Required(address))
            }
        }
    }

    fn database(
        &self,
        tuning: Option<&message_service::Tuning>,
        shared: Option<&SharedConfig>,
        problems: &mut Problems,
    ) -> Option<Database> {
        let settings = self.postgres_settings(problems);
        if let Some(Existing { user, message }) = self.database.existing(problems).ok()? {
            let mut shown = vec![user.to_string(), message.to_string()];
            shown.dedup();
            return Some(Database::Existing { user: user.into(), message: message.into(), shown: shown.join(" and ") });
        }
        // Each writer uses two connections: its own and its lane's.
        let writers = tuning.map_or(0, |tuning| tuning.writers() as u32 * 2);
        let pools = shared.map_or(0, |shared| shared.database_connections * 2) + writers;
        let options = Options::new(&self.data_dir).max_connections(200.max(pools + SPARE_CONNECTIONS));
        let options = self.database.with_bin_dir(options);
        Some(Database::Private(
            settings?.into_iter().fold(options, |options, (name, value)| options.setting(name, value)),
        ))
    }

    fn postgres_settings(&self, problems: &mut Problems) -> Option<Vec<(String, String)>> {
        let pairs = self.postgres_setting.iter().map(|text| {
            let pair = text.split_once('=').map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()));
            if pair.is_none() {
                problems.add(format!("--postgres-setting: {text:?} is not NAME=VALUE"));
            }
            pair
        });
        // Collected first, so that all of them are checked.
        pairs.collect::<Vec<_>>().into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn resolve(words: &[&str]) -> Result<Config, Problems> {
        Cli::try_parse_from(["serve"].iter().chain(words)).expect("flags that exist").arguments.resolve()
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        let words =
            ["--user-listen", "nowhere", "--message-listen", "0.0.0.0:1", "--user-database-url", "postgres://h/d"];
        let more = ["--postgres-setting", "fsync", "--drain-timeout", "soon"];
        let said = resolve(&[words.as_slice(), &more].concat()).unwrap_err().to_string();
        for flag in ["--user-listen", "--user-database-url", "--postgres-setting", "--drain-timeout"] {
            assert!(said.contains(flag), "{flag} is missing in: {said}");
        }
    }

    #[test]
    fn an_existing_database_replaces_the_private_one() {
        let config = resolve(&["--database-url", "postgres://u:hidden@h/d"]).unwrap();
        let Database::Existing { user, message, shown } = config.database else { panic!("a private database") };
        assert_eq!(shown, "h:5432/d");
        assert_eq!((user.to_string(), message.to_string()), (shown.clone(), shown));
    }

    #[test]
    fn shutdown_does_not_wait_for_load_balancers() {
        assert!(resolve(&[]).unwrap().shared.drain_accept.is_zero());
        assert_eq!(resolve(&["--drain-accept", "1s"]).unwrap().shared.drain_accept.as_secs(), 1);
    }

    #[test]
    fn a_password_is_never_printed() {
        let config = resolve(&["--database-url", "postgres://u:hidden@h/d"]).unwrap();
        assert!(!format!("{config:?}").contains("hidden"), "{config:?}");
    }

    #[test]
    fn the_web_client_is_at_the_configured_address_or_disabled() {
        let web = |words: &[&str]| resolve(words).map(|config| config.web_client);
        assert_eq!(web(&[]), Ok(Binding::IfFree(DEFAULT_WEB_LISTEN)));
        assert_eq!(web(&["--web-listen", "127.0.0.1:0"]), Ok(Binding::Required("127.0.0.1:0".parse().unwrap())));
        for words in [
            &["--web-listen", "off"][..],
            &["--web-listen", ""],
            &["--no-web", "--web-listen", "127.0.0.1:0"],
            &["--user-listen", "127.0.0.1:8080"],
        ] {
            assert_eq!(web(words), Ok(Binding::Disabled), "{words:?}");
        }
        for address in ["127.0.0.1:50051", "0.0.0.0:80", "here"] {
            let said = web(&["--web-listen", address]).unwrap_err().to_string();
            assert!(said.contains("--web-listen"), "{address}: {said}");
        }
    }

    #[test]
    fn the_same_address_twice_is_refused_unless_the_port_is_free_to_choose() {
        let twice = ["--user-listen", "127.0.0.1:7000", "--message-listen", "127.0.0.1:7000"];
        assert!(resolve(&twice).unwrap_err().to_string().contains("give each its own port"));
        resolve(&["--user-listen", "127.0.0.1:0", "--message-listen", "127.0.0.1:0"]).unwrap();
    }
}
