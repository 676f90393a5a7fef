//! The settings of `parlance serve`: flags, or environment variables of the same names in capitals. They arrive as text;
//! [`Arguments::resolve`] turns them into values and reports everything that is wrong with them at once.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use parlance_standalone::cluster::Options;
use service_kit::config::{Problems, Secret, SharedArgs, SharedConfig};
use sqlx::postgres::PgConnectOptions;

use super::page::Place;

/// Connections beyond the services' pools and writers: migrations, the two of the bus, and an operator who wants to
/// look inside.
const SPARE_CONNECTIONS: u32 = 30;

/// Where the page is served unless told otherwise.
const USUAL_WEB: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// Run everything: a private PostgreSQL, user-service and message-service
///
/// One process for development and small installs. Ctrl-C or SIGTERM lets what is under way finish, then stops
/// PostgreSQL; a second one does not wait. Nothing but the data folder is left.
#[derive(clap::Args, Debug)]
// No load balancer has to hear that this process ends.
#[command(mut_arg("drain_accept", |argument| argument.default_value("0s")))]
#[expect(clippy::doc_markdown, reason = "the help shows the text as it is, back-ticks included")]
pub(crate) struct Arguments {
    /// The folder that keeps the private PostgreSQL; made when it is missing. Not touched when a database is given
    #[arg(long, env = "DATA_DIR", default_value = "data", value_name = "DIR")]
    data_dir: PathBuf,

    /// Where user-service listens; port 0 takes a free one
    #[arg(long, env = "USER_LISTEN", default_value = "127.0.0.1:50051", value_name = "ADDRESS")]
    user_listen: String,

    /// Where message-service listens; port 0 takes a free one
    #[arg(long, env = "MESSAGE_LISTEN", default_value = "127.0.0.1:50052", value_name = "ADDRESS")]
    message_listen: String,

    /// Where the page is served, for a browser; port 0 takes a free one, `off` or nothing serves none. Unless told otherwise
    /// it is 127.0.0.1:8080, and none when that is taken. Beyond loopback the page's origin needs --cors-allow-origin, too
    #[arg(long, env = "WEB_LISTEN", value_name = "ADDRESS")]
    web_listen: Option<String>,

    /// Serve no page, whatever else is said
    #[arg(long)]
    no_web: bool,

    /// A PostgreSQL to use instead of a private one, for both services: postgres://USER:PASSWORD@HOST:PORT/DATABASE
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

    /// A setting of the private PostgreSQL, such as shared_buffers=512MB; repeat it for more
    #[arg(long, env = "POSTGRES_SETTING", value_name = "NAME=VALUE")]
    postgres_setting: Vec<String>,

    #[command(flatten)]
    tuning: message_service::TuningArgs,

    #[command(flatten)]
    shared: SharedArgs,
}

/// [`Arguments`] as values.
#[derive(Debug)]
pub(super) struct Config {
    /// Where user-service listens.
    pub(super) user_listen: SocketAddr,
    /// Where message-service listens.
    pub(super) message_listen: SocketAddr,
    /// Where the page is served.
    pub(super) web: Place,
    /// Which database.
    pub(super) database: Database,
    /// What is message-service's alone.
    pub(super) tuning: message_service::Tuning,
    /// What both services share.
    pub(super) shared: SharedConfig,
}

/// Which database the services use. Its `Debug` shows no password.
pub(super) enum Database {
    /// A private one.
    Private(Options),
    /// Somebody else's.
    Given {
        /// user-service's.
        user: Box<PgConnectOptions>,
        /// message-service's.
        message: Box<PgConnectOptions>,
        /// Both, for people: host, port and name, no password.
        shown: String,
    },
}

impl fmt::Debug for Database {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Private(options) => formatter.debug_tuple("Private").field(options).finish(),
            Self::Given { shown, .. } => formatter.debug_tuple("Given").field(shown).finish(),
        }
    }
}

impl Arguments {
    /// Checks everything. Errors: all problems, one line each.
    pub(super) fn resolve(self) -> Result<Config, Problems> {
        let mut problems = Problems::default();
        let shared = self.shared.parse(&mut problems);
        let user_listen = listen("--user-listen", &self.user_listen, &self.shared, &mut problems);
        let message_listen = listen("--message-listen", &self.message_listen, &self.shared, &mut problems);
        if let (Some(user), Some(message)) = (user_listen, message_listen)
            && user == message
            && user.port() != 0
        {
            problems.add(format!("--user-listen and --message-listen are both {user}: give each its own port"));
        }
        let web = self.web([user_listen, message_listen], &mut problems);
        let tuning = self.tuning.parse(&mut problems);
        let database = self.database(tuning.as_ref(), shared.as_ref(), &mut problems);
        match (user_listen, message_listen, web, database, tuning, shared) {
            (Some(user_listen), Some(message_listen), Some(web), Some(database), Some(tuning), Some(shared)) => {
                problems.into_result()?;
                Ok(Config { user_listen, message_listen, web, database, tuning, shared })
            }
            // A value that is missing has left its problem behind.
            _ => Err(problems),
        }
    }

    fn web(&self, services: [Option<SocketAddr>; 2], problems: &mut Problems) -> Option<Place> {
        let is_of_a_service = |port: u16| services.iter().flatten().any(|service| service.port() == port);
        match self.web_listen.as_deref().map(str::trim) {
            _ if self.no_web => Some(Place::Nowhere),
            Some("" | "off") => Some(Place::Nowhere),
            // A service was told to be there.
            None if is_of_a_service(USUAL_WEB.port()) => Some(Place::Nowhere),
            None => Some(Place::Usual(USUAL_WEB)),
            Some(text) => {
                let address = listen("--web-listen", text, &self.shared, problems)?;
                if address.port() != 0 && services.contains(&Some(address)) {
                    problems.add(format!("--web-listen is {address}, where a service listens: give it its own port"));
                }
                Some(Place::At(address))
            }
        }
    }

    fn database(
        self,
        tuning: Option<&message_service::Tuning>,
        shared: Option<&SharedConfig>,
        problems: &mut Problems,
    ) -> Option<Database> {
        let settings = self.postgres_settings(problems);
        let user = self.user_database_url.or_else(|| self.database_url.clone());
        let message = self.message_database_url.or(self.database_url);
        match (user, message) {
            (Some(user), Some(message)) => {
                let [user, message] = [("user", &user), ("message", &message)].map(|(service, url)| {
                    problems.database_url(&format!("--{service}-database-url or --database-url"), Some(url))
                });
                let (user, message) = (user?, message?);
                let mut shown = vec![show(&user), show(&message)];
                shown.dedup();
                Some(Database::Given { user: user.into(), message: message.into(), shown: shown.join(" and ") })
            }
            (None, None) => {
                // A writer has a connection, and its lane another.
                let writers = tuning.map_or(0, |tuning| tuning.writers() as u32 * 2);
                let pools = shared.map_or(0, |shared| shared.database_connections * 2) + writers;
                let mut options = Options::new(self.data_dir).max_connections(200.max(pools + SPARE_CONNECTIONS));
                options = self.pg_bin_dir.into_iter().fold(options, Options::bin_dir);
                Some(Database::Private(
                    settings?.into_iter().fold(options, |options, (name, value)| options.setting(name, value)),
                ))
            }
            (user, _) => {
                let (given, missing) = if user.is_some() { ("user", "message") } else { ("message", "user") };
                problems.add(format!(
                    "--{given}-database-url is given, so --{missing}-database-url is needed, too (or --database-url for both)"
                ));
                None
            }
        }
    }

    fn postgres_settings(&self, problems: &mut Problems) -> Option<Vec<(String, String)>> {
        let pairs = self.postgres_setting.iter().map(|text| {
            let pair = text.split_once('=').map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()));
            if pair.is_none() {
                problems.add(format!("--postgres-setting: {text:?} is not NAME=VALUE"));
            }
            pair
        });
        // Collected first, so that each of them is looked at.
        pairs.collect::<Vec<_>>().into_iter().collect()
    }
}

fn show(options: &PgConnectOptions) -> String {
    format!("{}:{}/{}", options.get_host(), options.get_port(), options.get_database().unwrap_or_default())
}

fn listen(name: &str, text: &str, shared: &SharedArgs, problems: &mut Problems) -> Option<SocketAddr> {
    let address = problems.parse(name, text)?;
    shared.check_listen(name, address, problems);
    Some(address)
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
    fn a_given_database_takes_the_place_of_the_private_one() {
        let config = resolve(&["--database-url", "postgres://u:hidden@h/d"]).unwrap();
        let Database::Given { user, message, shown } = config.database else { panic!("a private database") };
        assert_eq!(shown, "h:5432/d");
        assert_eq!((show(&user), show(&message)), (shown.clone(), shown));
    }

    #[test]
    fn ending_does_not_wait_for_load_balancers() {
        assert!(resolve(&[]).unwrap().shared.drain_accept.is_zero());
        assert_eq!(resolve(&["--drain-accept", "1s"]).unwrap().shared.drain_accept.as_secs(), 1);
    }

    #[test]
    fn a_password_is_never_printed() {
        let config = resolve(&["--database-url", "postgres://u:hidden@h/d"]).unwrap();
        assert!(!format!("{config:?}").contains("hidden"), "{config:?}");
    }

    #[test]
    fn the_page_is_where_it_is_told_to_be_or_not_at_all() {
        let web = |words: &[&str]| resolve(words).map(|config| config.web);
        assert_eq!(web(&[]), Ok(Place::Usual(USUAL_WEB)));
        assert_eq!(web(&["--web-listen", "127.0.0.1:0"]), Ok(Place::At("127.0.0.1:0".parse().unwrap())));
        for words in [
            &["--web-listen", "off"][..],
            &["--web-listen", ""],
            &["--no-web", "--web-listen", "127.0.0.1:0"],
            &["--user-listen", "127.0.0.1:8080"],
        ] {
            assert_eq!(web(words), Ok(Place::Nowhere), "{words:?}");
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
