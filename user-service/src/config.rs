//! The settings of user-service: turns flags and environment variables into values and reports all problems at once. The
//! only module that knows their names.

use std::{net::SocketAddr, path::PathBuf};

use service_kit::{
    config::{Problems, Secret},
    database,
    server::tls::{Endpoint, TlsArgs},
    shared::{SharedArgs, SharedConfig},
};

/// Flags and environment variables, as text.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Address and port for gRPC.
    #[arg(long, env = "LISTEN", default_value = "127.0.0.1:50051", value_name = "ADDRESS")]
    pub listen: String,

    /// PostgreSQL, such as <postgres://user:password@host:5432/database>. Required. The schema is `parlance_user`, so both
    /// services can share a database.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub database_url: Option<Secret>,

    /// File with the password of the database, instead of one in the URL. It is read again for new connections, so it can be
    /// replaced while the process runs.
    #[arg(long, env = "DATABASE_PASSWORD_FILE", value_name = "FILE")]
    pub database_password_file: Option<PathBuf>,

    /// TLS of the port for gRPC.
    #[command(flatten)]
    pub tls: TlsArgs,

    /// Settings that both services share.
    #[command(flatten)]
    pub shared: SharedArgs,
}

/// [`Args`] as values.
#[derive(Debug, Clone)]
pub struct Config {
    /// The address for gRPC; port 0 takes a free port.
    pub listen: SocketAddr,
    /// The database, with pool size and timeout.
    pub database: database::Settings,
    /// TLS of the address. None unless it is set.
    pub endpoint: Endpoint,
    /// Settings that both services share.
    pub shared: SharedConfig,
}

impl Config {
    /// Shown in `pg_stat_activity`.
    pub const APPLICATION_NAME: &'static str = "parlance user-service";

    /// Turns text into values.
    ///
    /// # Errors
    /// All problems, in one list.
    pub fn from_args(args: &Args) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let listen = args.shared.listen("--listen", &args.listen, &mut problems);
        let connect =
            problems.database_url("--database-url", args.database_url.as_ref(), args.database_password_file.as_deref());
        let endpoint = args.tls.parse(&mut problems);
        let shared = args.shared.parse(&mut problems);
        let (listen, connect, endpoint, shared) = problems.finish((listen, connect, endpoint, shared))?;
        Ok(Self { endpoint, ..Self::new(listen, connect, shared) })
    }

    /// Combines values that are known already, without TLS.
    pub fn new(listen: SocketAddr, connect: database::Address, shared: SharedConfig) -> Self {
        let database = database::Settings {
            connect,
            application_name: Self::APPLICATION_NAME,
            connections: shared.database_connections,
            timeout: shared.database_timeout,
            plan_anew: false,
        };
        Self { listen, database, endpoint: Endpoint::default(), shared }
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
    fn a_database_is_all_it_takes() {
        let config = config(&["--database-url", "postgres://parlance:secret@localhost/parlance"]).unwrap();
        assert_eq!(config.listen, "127.0.0.1:50051".parse().unwrap());
    }

    #[test]
    fn all_problems_are_reported_at_once() {
        let flags = [
            ["--listen", "nowhere"],
            ["--database-url", "here"],
            ["--database-timeout", "soon"],
            ["--admin-listen", "9090"],
            ["--otlp-endpoint", "https://collector:4317"],
            ["--trace-ratio", "2"],
        ];
        let reported = config(flags.as_flattened()).unwrap_err().to_string();
        assert!(reported.contains("6 problem(s)"), "{reported}");
        for [flag, _] in flags {
            assert!(reported.contains(flag), "{flag} is not in {reported}");
        }
    }

    #[test]
    fn metrics_and_traces_are_off_by_default() {
        let database = ["--database-url", "postgres://localhost/parlance"];
        let default = config(&database).unwrap().shared;
        assert!(default.admin_listen.is_none() && default.otlp_endpoint.is_none());
        // As in an environment file with empty values.
        let empty = config(&[&database[..], &["--admin-listen", "", "--otlp-endpoint", ""]].concat()).unwrap().shared;
        assert!(empty.admin_listen.is_none() && empty.otlp_endpoint.is_none());
    }

    #[test]
    fn a_password_is_never_printed() {
        let args: Args = parse_flags(&["--database-url", "postgres://parlance:topsecret@localhost/parlance"]).unwrap();
        assert!(!format!("{args:?}").contains("topsecret"));
    }
}
