//! Settings that both services share, and the way all settings are read: flags and environment variables arrive as text,
//! are turned into values here, and every problem is reported at once.

use std::{
    fmt::{self, Display},
    net::SocketAddr,
    str::FromStr,
    time::Duration,
};

use clap::Args;

/// Text that must never be printed: its `Debug` is redacted and it has no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for whoever must send it somewhere.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[redacted]")
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

/// Everything wrong with a configuration, found in one pass.
#[derive(Debug, Default, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Problems(Vec<String>);

impl Display for Problems {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the configuration has {} problem(s):", self.0.len())?;
        self.0.iter().try_for_each(|problem| write!(formatter, "\n  - {problem}"))
    }
}

impl Problems {
    /// Notes one problem.
    pub fn add(&mut self, problem: impl Into<String>) {
        self.0.push(problem.into());
    }

    /// Parses the text of one setting, or notes that it cannot be parsed. `name` is the setting as the operator knows it,
    /// such as `--listen`.
    pub fn parse<T: FromStr<Err: Display>>(&mut self, name: &str, text: &str) -> Option<T> {
        text.trim().parse().map_err(|error| self.add(format!("{name}: {text:?} is not valid: {error}"))).ok()
    }

    /// Parses a duration such as `250ms`, `30s` or `5m`.
    pub fn duration(&mut self, name: &str, text: &str) -> Option<Duration> {
        humantime::parse_duration(text.trim())
            .map_err(|error| self.add(format!("{name}: {text:?} is not a duration such as 250ms, 30s or 5m: {error}")))
            .ok()
    }

    /// Parses a whole number and holds it against its bounds.
    pub fn number<T>(&mut self, name: &str, text: &str, bounds: std::ops::RangeInclusive<T>) -> Option<T>
    where
        T: FromStr<Err: Display> + PartialOrd + Display,
    {
        let value = self.parse(name, text)?;
        if bounds.contains(&value) {
            return Some(value);
        }
        self.add(format!("{name}: {value} is not between {} and {}", bounds.start(), bounds.end()));
        None
    }

    /// Parses a PostgreSQL connection string. Its text is a secret and does not appear in the problem.
    pub fn database_url(&mut self, name: &str, text: Option<&Secret>) -> Option<sqlx::postgres::PgConnectOptions> {
        let Some(url) = text else {
            self.add(format!("{name} is required, such as postgres://user:password@host:5432/database"));
            return None;
        };
        let scheme = url.expose().split("://").next().unwrap_or_default();
        if !["postgres", "postgresql"].contains(&scheme) {
            self.add(format!("{name} does not begin with postgres://"));
            return None;
        }
        url.expose()
            .parse()
            .map_err(|error| self.add(format!("{name} is not a PostgreSQL connection string: {error}")))
            .ok()
    }

    /// Ends the pass.
    ///
    /// # Errors
    /// The problems themselves, if there is any.
    pub fn into_result(self) -> Result<(), Self> {
        if self.0.is_empty() { Ok(()) } else { Err(self) }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// For people at a terminal.
    #[default]
    Human,
    /// One JSON object a line, for machines.
    Json,
}

/// Flags and environment variables of both services and of `parlance serve`.
#[derive(Debug, Clone, Args)]
pub struct SharedArgs {
    /// How log lines look.
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value_t = LogFormat::Human)]
    pub log_format: LogFormat,

    /// What is logged: a level (error, warn, info, debug, trace) or directives such as `info,message_service=debug`.
    #[arg(long, env = "LOG_LEVEL", default_value = "info", value_name = "LEVEL")]
    pub log_level: String,

    /// A web origin that may call by gRPC-Web, such as <https://chat.example>; repeat it or separate by commas. None by
    /// default.
    #[arg(long, env = "CORS_ALLOW_ORIGIN", value_delimiter = ',', value_name = "ORIGIN")]
    pub cors_allow_origin: Vec<String>,

    /// Where to tell how it is going: Prometheus's metrics, at /metrics, without authentication; port 0 takes a free one.
    /// Without an address there are none.
    #[arg(long, env = "ADMIN_LISTEN", value_name = "ADDRESS")]
    pub admin_listen: Option<String>,

    /// A collector of traces that takes OTLP over gRPC, such as <http://127.0.0.1:4317>. Without one no traces are made.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,

    /// Of calls whose caller has not decided that already: how many are traced, from 0 for none to 1 for all.
    #[arg(long, env = "OTEL_TRACES_SAMPLER_ARG", default_value = "1", value_name = "RATIO")]
    pub trace_ratio: String,

    /// Listen beyond loopback although callers are not authenticated: whoever reaches the port may act for any user.
    #[arg(long, env = "INSECURE_ALLOW_UNAUTHENTICATED")]
    pub insecure_allow_unauthenticated: bool,

    /// The most connections open at a time.
    #[arg(long, env = "MAX_CONNECTIONS", default_value = "10000", value_name = "N")]
    pub max_connections: String,

    /// After SIGTERM: how long new connections are still accepted, until load balancers have heard.
    #[arg(long, env = "DRAIN_ACCEPT", default_value = "3s", value_name = "DURATION")]
    pub drain_accept: String,

    /// After SIGTERM: when what is still open is cut, at the latest. Includes the time above.
    #[arg(long, env = "DRAIN_TIMEOUT", default_value = "25s", value_name = "DURATION")]
    pub drain_timeout: String,

    /// Connections of each service to its database.
    #[arg(long, env = "DATABASE_CONNECTIONS", default_value = "16", value_name = "N")]
    pub database_connections: String,

    /// The longest a database call may take.
    #[arg(long, env = "DATABASE_TIMEOUT", default_value = "5s", value_name = "DURATION")]
    pub database_timeout: String,
}

/// [`SharedArgs`] as values.
#[derive(Debug, Clone)]
pub struct SharedConfig {
    /// How log lines look.
    pub log_format: LogFormat,
    /// What is logged, as `tracing_subscriber` directives.
    pub log_level: String,
    /// Web origins that may call by gRPC-Web.
    pub cors_allow_origin: Vec<http::HeaderValue>,
    /// Where metrics are told, if anywhere.
    pub admin_listen: Option<SocketAddr>,
    /// Where traces are sent, if anywhere.
    pub otlp_endpoint: Option<String>,
    /// How many of the calls that begin a trace are traced, 0 to 1.
    pub trace_ratio: f64,
    /// Listening beyond loopback without authentication is allowed.
    pub insecure_allow_unauthenticated: bool,
    /// The most connections open at a time, 1 or more.
    pub max_connections: usize,
    /// How long a draining server goes on accepting.
    pub drain_accept: Duration,
    /// When a draining server cuts what is still open.
    pub drain_timeout: Duration,
    /// Size of the pool, 2 to 1,000.
    pub database_connections: u32,
    /// The longest a database call may take.
    pub database_timeout: Duration,
}

impl SharedArgs {
    /// Refuses to listen where strangers may reach a service that trusts every caller. `name` is the setting of the address.
    pub fn check_listen(&self, name: &str, address: SocketAddr, problems: &mut Problems) {
        if !address.ip().is_loopback() && !self.insecure_allow_unauthenticated {
            problems.add(format!(
                "{name}: {address} is reachable from other machines, and without authentication every caller is trusted \
                 with the user ids it gives; listen on 127.0.0.1, or say --insecure-allow-unauthenticated if something \
                 in front keeps strangers out"
            ));
        }
    }

    /// Turns text into values and notes every problem; `None` if there was one.
    pub fn parse(&self, problems: &mut Problems) -> Option<SharedConfig> {
        let cors_allow_origin = self
            .cors_allow_origin
            .iter()
            .map(|origin| {
                let valid = origin.starts_with("http://") || origin.starts_with("https://");
                let header = http::HeaderValue::from_str(origin.trim_end_matches('/'));
                if let (true, Ok(header)) = (valid, header) {
                    return Some(header);
                }
                problems.add(format!("--cors-allow-origin: {origin:?} is not an origin such as https://chat.example"));
                None
            })
            .collect::<Vec<_>>();
        if tracing_subscriber::EnvFilter::try_new(&self.log_level).is_err() {
            problems.add(format!("--log-level: {:?} is neither a level nor a list of directives", self.log_level));
        }
        let admin_listen = self.admin_listen.as_deref().filter(|text| !text.trim().is_empty());
        let admin_listen = admin_listen.map(|text| problems.parse::<SocketAddr>("--admin-listen", text));
        let otlp_endpoint = self.otlp_endpoint.as_deref().map(str::trim).filter(|text| !text.is_empty());
        if otlp_endpoint.is_some_and(|url| !is_plain_url(url)) {
            problems.add("--otlp-endpoint is not http://host:port; traces leave unencrypted, for a collector close by");
        }
        let trace_ratio = problems.number("--trace-ratio", &self.trace_ratio, 0.0..=1.0);
        let max_connections = problems.number("--max-connections", &self.max_connections, 1..=1_000_000);
        let drain_accept = problems.duration("--drain-accept", &self.drain_accept);
        let drain_timeout = problems.duration("--drain-timeout", &self.drain_timeout);
        let database_connections = problems.number("--database-connections", &self.database_connections, 2..=1_000);
        let database_timeout = problems.duration("--database-timeout", &self.database_timeout);
        if let (Some(accept), Some(timeout)) = (drain_accept, drain_timeout)
            && accept >= timeout
        {
            problems.add("--drain-accept must be shorter than --drain-timeout");
        }
        Some(SharedConfig {
            log_format: self.log_format,
            log_level: self.log_level.clone(),
            cors_allow_origin: cors_allow_origin.into_iter().collect::<Option<_>>()?,
            admin_listen: match admin_listen {
                Some(parsed) => Some(parsed?),
                None => None,
            },
            otlp_endpoint: otlp_endpoint.map(str::to_owned),
            trace_ratio: trace_ratio?,
            insecure_allow_unauthenticated: self.insecure_allow_unauthenticated,
            max_connections: max_connections?,
            drain_accept: drain_accept?,
            drain_timeout: drain_timeout?,
            database_connections: database_connections?,
            database_timeout: database_timeout?,
        })
    }
}

/// Without a user or a path, over HTTP.
fn is_plain_url(text: &str) -> bool {
    let Ok(url) = text.parse::<http::Uri>() else { return false };
    let plain = url.scheme_str() == Some("http") && matches!(url.path(), "" | "/") && url.query().is_none();
    plain && url.port_u16().is_some() && !text.contains('@')
}
