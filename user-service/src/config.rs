//! Settings of user-service: flags and environment variables in, values out, every problem at once. The only place that
//! knows the names of either.

use std::net::SocketAddr;

use service_kit::{
    config::{Problems, Secret, SharedArgs, SharedConfig},
    database::{self, PgConnectOptions},
};

/// Flags and environment variables, as text.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Address and port to answer gRPC on.
    #[arg(long, env = "LISTEN", default_value = "127.0.0.1:50051", value_name = "ADDRESS")]
    pub listen: String,

    /// PostgreSQL, such as <postgres://user:password@host:5432/database>. Required. The schema is `parlance_user`, so one
    /// database can serve both services.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub database_url: Option<Secret>,

    /// What both services share.
    #[command(flatten)]
    pub shared: SharedArgs,
}

/// [`Args`] as values.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to answer gRPC; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The database and the bounds of using it.
    pub database: database::Settings,
    /// What both services share.
    pub shared: SharedConfig,
}

impl Config {
    /// Shown in `pg_stat_activity`.
    pub const APPLICATION_NAME: &'static str = "parlance user-service";

    /// Turns text into values.
    ///
    /// # Errors
    /// Everything that is wrong, in one list.
    pub fn from_args(args: &Args) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let listen = problems.parse("--listen", &args.listen);
        let connect = problems.database_url("--database-url", args.database_url.as_ref());
        let shared = args.shared.parse(&mut problems);
        if let Some(listen) = listen {
            args.shared.check_listen("--listen", listen, &mut problems);
        }
        let (Some(listen), Some(connect), Some(shared)) = (listen, connect, shared) else {
            return Err(problems);
        };
        problems.into_result()?;
        Ok(Self::new(listen, connect, shared))
    }

    /// Puts values together, for whoever has them already.
    pub fn new(listen: SocketAddr, connect: PgConnectOptions, shared: SharedConfig) -> Self {
        let database = database::Settings {
            connect,
            application_name: Self::APPLICATION_NAME,
            connections: shared.database_connections,
            timeout: shared.database_timeout,
            plan_anew: false,
        };
        Self { listen, database, shared }
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
        let line = ["user-service"].iter().chain(flags);
        Config::from_args(&Line::try_parse_from(line).unwrap().args)
    }

    #[test]
    fn a_database_is_all_it_takes() {
        let config = config(&["--database-url", "postgres://parlance:secret@localhost/parlance"]).unwrap();
        assert_eq!(config.listen, "127.0.0.1:50051".parse().unwrap());
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let flags = [
            ["--listen", "nowhere"],
            ["--database-url", "here"],
            ["--database-timeout", "soon"],
            ["--admin-listen", "9090"],
            ["--otlp-endpoint", "https://collector:4317"],
            ["--trace-ratio", "2"],
        ];
        let told = config(flags.as_flattened()).unwrap_err().to_string();
        assert!(told.contains("6 problem(s)"), "{told}");
        for [flag, _] in flags {
            assert!(told.contains(flag), "{flag} is not in {told}");
        }
    }

    #[test]
    fn nothing_is_told_to_nobody_in_particular() {
        let database = ["--database-url", "postgres://localhost/parlance"];
        let silent = config(&database).unwrap().shared;
        assert!(silent.admin_listen.is_none() && silent.otlp_endpoint.is_none());
        // As environment files give what is not set.
        let empty = config(&[&database[..], &["--admin-listen", "", "--otlp-endpoint", ""]].concat()).unwrap().shared;
        assert!(empty.admin_listen.is_none() && empty.otlp_endpoint.is_none());
    }

    #[test]
    fn strangers_are_kept_out_unless_told_otherwise() {
        let flags = ["--database-url", "postgres://localhost/parlance", "--listen", "0.0.0.0:50051"];
        assert!(config(&flags).unwrap_err().to_string().contains("--insecure-allow-unauthenticated"));
        assert!(config(&[&flags[..], &["--insecure-allow-unauthenticated"]].concat()).is_ok());
    }

    #[test]
    fn a_password_is_never_printed() {
        let url = "postgres://parlance:topsecret@localhost/parlance";
        let args = Line::try_parse_from(["user-service", "--database-url", url]).unwrap().args;
        assert!(!format!("{args:?}").contains("topsecret"));
    }
}
