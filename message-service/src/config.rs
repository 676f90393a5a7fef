//! Settings of message-service: parses flags and environment variables, and reports every problem at once. No other file
//! knows their names.

use std::{net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use service_kit::{
    auth::Mode,
    config::{Problems, Secret},
    database,
    server::tls::{Endpoint, TlsArgs},
    shared::{SharedArgs, SharedConfig},
    tls::client::{ClientFiles, ClientFlags},
};

use crate::{
    bus,
    directory::{self, Address},
};

/// The longest cache TTL.
const MAX_CACHE_TTL: Duration = Duration::from_secs(30);
/// The longest fallback TTL.
const MAX_FALLBACK_TTL: Duration = Duration::from_hours(24);
/// The bounds of the outbox retention.
const RETENTION: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(24);

/// Flags and environment variables, as text.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Address and port for gRPC.
    #[arg(long, env = "LISTEN", default_value = "127.0.0.1:50052", value_name = "ADDRESS")]
    pub listen: String,

    /// PostgreSQL, such as <postgres://user:password@host:5432/database>. Required. The schema is
    /// `parlance_message`, so both services can share a database.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub database_url: Option<Secret>,

    /// File with the password of the database, instead of one in the URL. It is read again for new connections, so it can be
    /// replaced while the process runs.
    #[arg(long, env = "DATABASE_PASSWORD_FILE", value_name = "FILE")]
    pub database_password_file: Option<PathBuf>,

    /// Address of user-service (http://host:port, or https://host:port for TLS), which reports if senders are active. A host name is resolved every
    /// 10s, and calls are spread over its addresses.
    #[arg(long, env = "USER_SERVICE_URL", default_value = "http://127.0.0.1:50051", value_name = "URL")]
    pub user_service_url: String,

    /// File with the token by which this service calls user-service, of the role `directory`. It is read again when it changes.
    /// Without one, and with --token-secret-file, the service signs its own.
    #[arg(long, env = "USER_SERVICE_TOKEN_FILE", value_name = "FILE")]
    pub user_service_token_file: Option<PathBuf>,

    /// File with the certificates of the authorities of user-service (PEM), for https. Default: those that the system trusts.
    /// It is read again for new connections, as are the two below.
    #[arg(long, env = "USER_SERVICE_CA_FILE", value_name = "FILE")]
    pub user_service_ca_file: Option<PathBuf>,

    /// File with the client certificate to show to user-service (PEM).
    #[arg(long, env = "USER_SERVICE_CLIENT_CERT_FILE", value_name = "FILE")]
    pub user_service_client_cert_file: Option<PathBuf>,

    /// File with the private key of the client certificate (PEM).
    #[arg(long, env = "USER_SERVICE_CLIENT_KEY_FILE", value_name = "FILE")]
    pub user_service_client_key_file: Option<PathBuf>,

    /// The flags that `parlance serve` has too.
    #[command(flatten)]
    pub tuning: TuningArgs,

    /// TLS of the port for gRPC.
    #[command(flatten)]
    pub tls: TlsArgs,

    /// The flags of both services.
    #[command(flatten)]
    pub shared: SharedArgs,
}

/// Flags and environment variables other than addresses, as text.
#[derive(Debug, Clone, clap::Args)]
pub struct TuningArgs {
    /// Time to cache the state of a user that user-service returned (at most 30s). While change notifications are down:
    /// 2s, or this value if shorter.
    #[arg(long, env = "DIRECTORY_FRESH", default_value = "30s", value_name = "DURATION")]
    pub directory_fresh: String,

    /// Time for which a user last seen as active may act while user-service cannot be reached (at most 24h).
    #[arg(long, env = "DIRECTORY_STALE", default_value = "5m", value_name = "DURATION")]
    pub directory_stale: String,

    /// Number of writers (1 to 64). Each uses up to two database connections beside the pool.
    #[arg(long, env = "WRITERS", default_value = "4", value_name = "COUNT")]
    pub writers: String,

    /// Transport of notifications between replicas: `postgres` (LISTEN/NOTIFY) or NATS servers such as
    /// <nats://host:4222>, separated by commas. Notifications are hints: losing one delays delivery by at most 250ms.
    /// Same value on all replicas.
    #[arg(long, env = "BUS_URL", default_value = "postgres", hide_env_values = true, value_name = "URL")]
    pub bus_url: Secret,

    /// Time to keep outbox rows (1s to 24h), and so the time for which a replica can lose the database and still catch up
    /// without re-reading every head. Same value on all replicas.
    #[arg(long, env = "OUTBOX_RETENTION", default_value = "5m", value_name = "DURATION")]
    pub outbox_retention: String,

    /// Memory for the latest entries of conversations with subscribers, in bytes or with KiB, MiB or GiB. Beyond it,
    /// entries are read from the database.
    #[arg(long, env = "LIVE_LOG_BYTES", default_value = "256MiB", value_name = "BYTES")]
    pub live_log_bytes: String,
}

/// [`TuningArgs`] as values.
#[derive(Debug, Clone)]
pub struct Tuning {
    directory_cache_ttl: Duration,
    directory_fallback_ttl: Duration,
    bus: bus::Address,
    writers: usize,
    outbox_retention: Duration,
    live_log_bytes: usize,
}

/// [`Args`] as values.
#[derive(Debug, Clone)]
pub struct Config {
    /// The address of the gRPC server; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The database, and the limits of its use.
    pub database: database::Settings,
    /// The address of user-service and the lifetime of cached users.
    pub directory: directory::Settings,
    /// The file with the token by which this service calls user-service, if it does not sign its own.
    pub user_service_token_file: Option<PathBuf>,
    /// The transport of hints between replicas.
    pub bus: bus::Address,
    /// The number of writers.
    pub writers: usize,
    /// The time for which outbox rows are kept.
    pub outbox_retention: Duration,
    /// The memory for the latest entries of followed conversations, in bytes.
    pub live_log_bytes: usize,
    /// TLS of the address. None unless it is set.
    pub endpoint: Endpoint,
    /// The settings of both services.
    pub shared: SharedConfig,
}

impl Config {
    /// The application name in `pg_stat_activity`.
    pub const APPLICATION_NAME: &'static str = "parlance message-service";

    /// Parses the arguments.
    ///
    /// # Errors
    /// Every problem, in one list.
    pub fn from_args(args: &Args) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let listen = args.shared.listen("--listen", &args.listen, &mut problems);
        let connect =
            problems.database_url("--database-url", args.database_url.as_ref(), args.database_password_file.as_deref());
        let address = args.user_service(&mut problems);
        let tuning = args.tuning.parse(&mut problems);
        let endpoint = args.tls.parse(&mut problems);
        let shared = args.shared.parse(&mut problems);
        let signs =
            shared.as_ref().is_none_or(|shared| shared.auth.mode == Mode::Off || !shared.auth.secrets.is_empty());
        if !signs && args.user_service_token_file.is_none() {
            problems.add(
                "--user-service-token-file is missing: with authentication, and without a --token-secret-file to sign one, \
                 this service needs a token of the role directory to ask user-service about users",
            );
        }
        let (listen, connect, address, tuning, endpoint, shared) =
            problems.finish((listen, connect, address, tuning, endpoint, shared))?;
        Ok(Self {
            endpoint,
            user_service_token_file: args.user_service_token_file.clone(),
            ..Self::new(listen, connect, address, &tuning, shared)
        })
    }

    /// Combines values that are parsed already, without TLS. `user_service` is the address of user-service.
    pub fn new(
        listen: SocketAddr,
        connect: database::Address,
        user_service: Address,
        tuning: &Tuning,
        shared: SharedConfig,
    ) -> Self {
        let Tuning { directory_cache_ttl, directory_fallback_ttl, ref bus, writers, outbox_retention, live_log_bytes } =
            *tuning;
        let bus = bus.clone();
        let database = database::Settings {
            connect,
            application_name: Self::APPLICATION_NAME,
            connections: shared.database_connections,
            timeout: shared.database_timeout,
            plan_anew: true,
        };
        let directory = directory::Settings {
            address: user_service,
            cache_ttl: directory_cache_ttl,
            fallback_ttl: directory_fallback_ttl,
        };
        let endpoint = Endpoint::default();
        Self {
            listen,
            database,
            directory,
            user_service_token_file: None,
            bus,
            writers,
            outbox_retention,
            live_log_bytes,
            endpoint,
            shared,
        }
    }
}

/// The settings of TLS to user-service.
const USER_SERVICE_TLS: ClientFlags = ClientFlags {
    authorities: "--user-service-ca-file",
    certificate: "--user-service-client-cert-file",
    key: "--user-service-client-key-file",
};

impl Args {
    /// Parses the address of user-service, and reads the files of TLS to it once, so that problems show at start.
    fn user_service(&self, problems: &mut Problems) -> Option<Address> {
        let address: Address = problems.parse("--user-service-url", &self.user_service_url)?;
        let authorities = self.user_service_ca_file.clone();
        let ClientFlags { authorities: ca_flag, certificate: certificate_flag, key: key_flag } = USER_SERVICE_TLS;
        let identity = match (&self.user_service_client_cert_file, &self.user_service_client_key_file) {
            (None, None) => None,
            (Some(certificate), Some(key)) => Some((certificate.clone(), key.clone())),
            _ => {
                problems.add(format!("{certificate_flag} and {key_flag} belong together: set both or neither"));
                return None;
            }
        };
        let files = ClientFiles { authorities, identity };
        if address.is_secure() {
            files.check(USER_SERVICE_TLS, problems);
        } else if files != ClientFiles::default() {
            problems.add(format!(
                "{ca_flag}, {certificate_flag} and {key_flag} have no effect while --user-service-url is http: make it https"
            ));
        }
        Some(address.with_files(files))
    }
}

impl Tuning {
    /// Returns the number of writers, 1 to 64.
    pub fn writers(&self) -> usize {
        self.writers
    }
}

impl TuningArgs {
    /// Parses the arguments and adds every problem to the list. Returns `None` if there was one.
    pub fn parse(&self, problems: &mut Problems) -> Option<Tuning> {
        let directory_cache_ttl = problems.duration("--directory-fresh", &self.directory_fresh);
        let directory_fallback_ttl = problems.duration("--directory-stale", &self.directory_stale);
        if directory_cache_ttl.is_some_and(|ttl| ttl > MAX_CACHE_TTL) {
            problems.add(format!("--directory-fresh: {:?} is more than 30s", self.directory_fresh));
        }
        if directory_fallback_ttl.is_some_and(|ttl| ttl > MAX_FALLBACK_TTL) {
            problems.add(format!("--directory-stale: {:?} is more than 24h", self.directory_stale));
        }
        let writers = problems.number("--writers", &self.writers, 1..=64);
        // Not through `Problems::parse`, which quotes the text: it may hold a password.
        let bus = self.bus_url.expose().parse();
        if let Err(error) = &bus {
            problems.add(format!("--bus-url: {error}"));
        }
        let outbox_retention = problems.duration("--outbox-retention", &self.outbox_retention);
        if outbox_retention.is_some_and(|retention| !RETENTION.contains(&retention)) {
            problems.add(format!("--outbox-retention: {:?} is not between 1s and 24h", self.outbox_retention));
        }
        let live_log_bytes = problems.parse("--live-log-bytes", &self.live_log_bytes);
        Some(Tuning {
            directory_cache_ttl: directory_cache_ttl?,
            directory_fallback_ttl: directory_fallback_ttl?,
            bus: bus.ok()?,
            writers: writers?,
            outbox_retention: outbox_retention?,
            live_log_bytes: live_log_bytes.map(|Bytes(count)| count)?,
        })
    }
}

/// An amount of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bytes(usize);

/// The error for a text that is no amount of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it must be a number of bytes, or one with KiB, MiB or GiB")]
struct NotBytes;

impl FromStr for Bytes {
    type Err = NotBytes;

    fn from_str(text: &str) -> Result<Self, NotBytes> {
        let units = [("KiB", 10), ("MiB", 20), ("GiB", 30)];
        let unit = units.iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?.trim_end(), *shift)));
        let (digits, shift) = unit.unwrap_or((text, 0));
        let count: usize = digits.parse().map_err(|_| NotBytes)?;
        count.checked_mul(1 << shift).map(Self).ok_or(NotBytes)
    }
}

#[cfg(test)]
mod tests {
    use service_kit::command::parse_flags;

    use super::*;

    fn config(flags: &[&str]) -> Result<Config, Problems> {
        Config::from_args(&parse_flags(flags).unwrap())
    }

    #[test]
    fn only_the_database_is_required() {
        let config = config(&["--database-url", "postgres://parlance:secret@localhost/parlance"]).unwrap();
        assert_eq!(config.listen, "127.0.0.1:50052".parse().unwrap());
        assert_eq!(config.directory.address, "http://127.0.0.1:50051".parse().unwrap());
        assert_eq!((config.writers, config.live_log_bytes), (4, 256 * 1024 * 1024));
        assert_eq!((config.directory.cache_ttl.as_secs(), config.directory.fallback_ttl.as_secs()), (30, 300));
    }

    #[test]
    fn files_of_tls_to_user_service_need_https_and_must_be_readable() {
        let database = ["--database-url", "postgres://localhost/parlance"];
        let problems =
            |flags: &[&str]| config(&[&database[..], flags].concat()).map(|_| ()).map_err(|found| found.to_string());
        let ca = ["--user-service-ca-file", "/no/ca.pem"];
        let https = ["--user-service-url", "https://users:50051"];
        assert_eq!(problems(&https), Ok(()));
        assert!(problems(&ca).unwrap_err().contains("while --user-service-url is http"));
        let found = problems(&[https, ca].concat()).unwrap_err();
        assert!(found.contains("--user-service-ca-file: the file /no/ca.pem cannot be read"), "{found}");
        let found = problems(&[https, ["--user-service-client-cert-file", "/no/cert.pem"]].concat()).unwrap_err();
        assert!(found.contains("belong together"), "{found}");
    }

    #[test]
    fn all_problems_are_reported_at_once() {
        let flags = [
            ["--listen", "nowhere"],
            ["--database-url", "mysql://x"],
            ["--user-service-url", "users"],
            ["--directory-fresh", "1m"],
            ["--directory-stale", "long"],
            ["--writers", "65"],
            ["--bus-url", "redis://x"],
            ["--live-log-bytes", "much"],
            ["--database-timeout", "soon"],
        ];
        let problems = config(flags.as_flattened()).unwrap_err().to_string();
        assert!(problems.contains("9 problem(s)"), "{problems}");
        for [flag, _] in flags {
            assert!(problems.contains(flag), "{flag} is not in {problems}");
        }
    }

    #[test]
    fn sizes_are_counted_in_powers_of_two() {
        let bytes = |text: &str| text.parse().map(|Bytes(count)| count);
        assert_eq!((bytes("0"), bytes("7KiB"), bytes("64 MiB")), (Ok(0), Ok(7168), Ok(64 << 20)));
        for text in ["", "MiB", "-1", "1MB", "1.5GiB", "99999999999999GiB"] {
            assert_eq!(bytes(text), Err(NotBytes), "{text:?}");
        }
    }

    #[test]
    fn listening_publicly_without_authentication_requires_consent() {
        let flags = ["--database-url", "postgres://localhost/parlance", "--listen", "0.0.0.0:50052"];
        assert!(config(&flags).unwrap_err().to_string().contains("--insecure-allow-unauthenticated"));
        assert!(config(&[&flags[..], &["--insecure-allow-unauthenticated"]].concat()).is_ok());
    }

    #[test]
    fn a_password_is_never_printed() {
        let url = "postgres://parlance:topsecret@localhost/parlance";
        let args = parse_flags::<Args>(&["--database-url", url]).unwrap();
        assert!(!format!("{args:?}").contains("topsecret"));
    }
}
