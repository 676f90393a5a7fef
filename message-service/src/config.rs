//! Settings of message-service: flags and environment variables in, values out, every problem at once. The only place that
//! knows the names of either.

use std::{net::SocketAddr, str::FromStr, time::Duration};

use service_kit::{
    config::{Problems, Secret, SharedArgs, SharedConfig},
    database::{self, PgConnectOptions},
};

use crate::{
    bus,
    directory::{self, Address},
};

/// The longest that an answer of user-service may be gone by without asking again.
const MAX_FRESH: Duration = Duration::from_secs(30);
/// The longest that it may be gone by while user-service cannot be reached.
const MAX_STALE: Duration = Duration::from_hours(24);
/// For how long rows of the outbox may be kept.
const RETENTION: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(24);

/// Flags and environment variables, as text.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Address and port to answer gRPC on.
    #[arg(long, env = "LISTEN", default_value = "127.0.0.1:50052", value_name = "ADDRESS")]
    pub listen: String,

    /// PostgreSQL, such as <postgres://user:password@host:5432/database>. Required. The schema is `parlance_message`, so
    /// one database can serve both services.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub database_url: Option<Secret>,

    /// Where user-service is, which is asked about every sender. A host name is resolved again every few seconds.
    #[arg(long, env = "USER_SERVICE_URL", default_value = "http://127.0.0.1:50051", value_name = "URL")]
    pub user_service_url: String,

    /// What `parlance serve` takes too.
    #[command(flatten)]
    pub tuning: TuningArgs,

    /// What both services share.
    #[command(flatten)]
    pub shared: SharedArgs,
}

/// Flags and environment variables that have nothing to do with where things are, as text.
#[derive(Debug, Clone, clap::Args)]
pub struct TuningArgs {
    /// For how long an answer of user-service is gone by before it is asked again, while changes of users are told of; at most
    /// 30s. While they are not: 2s, or less if this is less.
    #[arg(long, env = "DIRECTORY_FRESH", default_value = "30s", value_name = "DURATION")]
    pub directory_fresh: String,

    /// For how long a user last known as active may go on while user-service cannot be reached; at most 24h.
    #[arg(long, env = "DIRECTORY_STALE", default_value = "5m", value_name = "DURATION")]
    pub directory_stale: String,

    /// Writers, each with a database connection of its own beside the pool: 1 to 64.
    #[arg(long, env = "WRITERS", default_value = "4", value_name = "COUNT")]
    pub writers: String,

    /// What replicas tell each other through: `postgres`, the database that is there anyway, or servers of NATS such as
    /// <nats://host:4222>, for many replicas and much to tell. What is lost on the way is delivered a moment later.
    #[arg(long, env = "BUS_URL", default_value = "postgres", hide_env_values = true, value_name = "URL")]
    pub bus_url: Secret,

    /// For how long a replica may be out of touch with the database and still go on where it was, 1s to 24h: the outbox is kept
    /// for this long. The same at all replicas.
    #[arg(long, env = "OUTBOX_RETENTION", default_value = "5m", value_name = "DURATION")]
    pub outbox_retention: String,

    /// The memory for the latest entries of conversations that are being followed, such as 64MiB or 1GiB.
    #[arg(long, env = "LIVE_LOG_BYTES", default_value = "256MiB", value_name = "BYTES")]
    pub live_log_bytes: String,
}

/// [`TuningArgs`] as values.
#[derive(Debug, Clone)]
pub struct Tuning {
    /// For how long an answer of user-service is gone by before it is asked again.
    directory_fresh: Duration,
    /// For how long a user last known as active may go on while user-service cannot be reached.
    directory_stale: Duration,
    /// What replicas tell each other through.
    bus: bus::Address,
    /// How many writers there are.
    writers: usize,
    /// For how long rows of the outbox are kept.
    outbox_retention: Duration,
    /// The memory for the latest entries of conversations that are being followed, in bytes.
    live_log_bytes: usize,
}

/// [`Args`] as values.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to answer gRPC; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The database and the bounds of using it.
    pub database: database::Settings,
    /// Where user-service is and for how long its answers hold.
    pub directory: directory::Settings,
    /// What replicas tell each other through.
    pub bus: bus::Address,
    /// How many writers there are.
    pub writers: usize,
    /// For how long rows of the outbox are kept.
    pub outbox_retention: Duration,
    /// The memory for the latest entries of conversations that are being followed, in bytes.
    pub live_log_bytes: usize,
    /// What both services share.
    pub shared: SharedConfig,
}

impl Config {
    /// Shown in `pg_stat_activity`.
    pub const APPLICATION_NAME: &'static str = "parlance message-service";

    /// Turns text into values.
    ///
    /// # Errors
    /// Everything that is wrong, in one list.
    pub fn from_args(args: &Args) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let listen = problems.parse("--listen", &args.listen);
        let connect = problems.database_url("--database-url", args.database_url.as_ref());
        let address = problems.parse("--user-service-url", &args.user_service_url);
        let tuning = args.tuning.parse(&mut problems);
        let shared = args.shared.parse(&mut problems);
        if let Some(listen) = listen {
            args.shared.check_listen("--listen", listen, &mut problems);
        }
        let (Some(listen), Some(connect), Some(address), Some(tuning), Some(shared)) =
            (listen, connect, address, tuning, shared)
        else {
            return Err(problems);
        };
        problems.into_result()?;
        Ok(Self::new(listen, connect, address, &tuning, shared))
    }

    /// Puts values together, for whoever has them already. `user_service` is who is asked about senders.
    pub fn new(
        listen: SocketAddr,
        connect: PgConnectOptions,
        user_service: Address,
        tuning: &Tuning,
        shared: SharedConfig,
    ) -> Self {
        let Tuning { directory_fresh, directory_stale, ref bus, writers, outbox_retention, live_log_bytes } = *tuning;
        let bus = bus.clone();
        let database = database::Settings {
            connect,
            application_name: Self::APPLICATION_NAME,
            connections: shared.database_connections,
            timeout: shared.database_timeout,
            plan_anew: true,
        };
        let directory =
            directory::Settings { address: user_service, cache_ttl: directory_fresh, fallback_ttl: directory_stale };
        Self { listen, database, directory, bus, writers, outbox_retention, live_log_bytes, shared }
    }
}

impl Tuning {
    /// How many writers there are, 1 to 64.
    pub fn writers(&self) -> usize {
        self.writers
    }
}

impl TuningArgs {
    /// Turns text into values and notes every problem; `None` if there was one.
    pub fn parse(&self, problems: &mut Problems) -> Option<Tuning> {
        let directory_fresh = problems.duration("--directory-fresh", &self.directory_fresh);
        let directory_stale = problems.duration("--directory-stale", &self.directory_stale);
        if directory_fresh.is_some_and(|fresh| fresh > MAX_FRESH) {
            problems.add(format!("--directory-fresh: {:?} is more than 30s", self.directory_fresh));
        }
        if directory_stale.is_some_and(|stale| stale > MAX_STALE) {
            problems.add(format!("--directory-stale: {:?} is more than 24h", self.directory_stale));
        }
        let writers = problems.number("--writers", &self.writers, 1..=64);
        // Apart from the others: the text may hold a password and is not to be repeated.
        let bus = self.bus_url.expose().parse();
        if let Err(why) = &bus {
            problems.add(format!("--bus-url: {why}"));
        }
        let outbox_retention = problems.duration("--outbox-retention", &self.outbox_retention);
        if outbox_retention.is_some_and(|retention| !RETENTION.contains(&retention)) {
            problems.add(format!("--outbox-retention: {:?} is not between 1s and 24h", self.outbox_retention));
        }
        let live_log_bytes = problems.parse("--live-log-bytes", &self.live_log_bytes);
        Some(Tuning {
            directory_fresh: directory_fresh?,
            directory_stale: directory_stale?,
            bus: bus.ok()?,
            writers: writers?,
            outbox_retention: outbox_retention?,
            live_log_bytes: live_log_bytes.map(|Bytes(count)| count)?,
        })
    }
}

/// A size in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bytes(usize);

/// Why a text is no size.
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
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn config(flags: &[&str]) -> Result<Config, Problems> {
        let line = ["message-service"].iter().chain(flags);
        Config::from_args(&Line::try_parse_from(line).unwrap().args)
    }

    #[test]
    fn a_database_is_all_it_takes() {
        let config = config(&["--database-url", "postgres://parlance:secret@localhost/parlance"]).unwrap();
        assert_eq!(config.listen, "127.0.0.1:50052".parse().unwrap());
        assert_eq!(config.directory.address, "http://127.0.0.1:50051".parse().unwrap());
        assert_eq!((config.writers, config.live_log_bytes), (4, 256 * 1024 * 1024));
        assert_eq!((config.directory.cache_ttl.as_secs(), config.directory.fallback_ttl.as_secs()), (30, 300));
    }

    #[test]
    fn all_problems_are_told_at_once() {
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
        let told = config(flags.as_flattened()).unwrap_err().to_string();
        assert!(told.contains("9 problem(s)"), "{told}");
        for [flag, _] in flags {
            assert!(told.contains(flag), "{flag} is not in {told}");
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
    fn strangers_are_kept_out_unless_told_otherwise() {
        let flags = ["--database-url", "postgres://localhost/parlance", "--listen", "0.0.0.0:50052"];
        assert!(config(&flags).unwrap_err().to_string().contains("--insecure-allow-unauthenticated"));
        assert!(config(&[&flags[..], &["--insecure-allow-unauthenticated"]].concat()).is_ok());
    }

    #[test]
    fn a_password_is_never_printed() {
        let url = "postgres://parlance:topsecret@localhost/parlance";
        let args = Line::try_parse_from(["message-service", "--database-url", url]).unwrap().args;
        assert!(!format!("{args:?}").contains("topsecret"));
    }
}
