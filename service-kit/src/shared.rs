//! The settings that both services and `parlance serve` share.

use std::{net::SocketAddr, ops::RangeInclusive, time::Duration};

use clap::{Args, builder::BoolishValueParser};

use crate::{
    auth::{self, AuthArgs, Mode},
    config::{LogFormat, Problems},
    names::{HostName, Origin},
    telemetry,
};

/// The bounds of the timeout of a database call. PostgreSQL takes 0 for no limit.
const DATABASE_TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_hours(1);

/// Flags and environment variables of both services and `parlance serve`.
#[derive(Debug, Clone, Args)]
pub struct SharedArgs {
    /// Who may call.
    #[command(flatten)]
    pub auth: AuthArgs,

    /// The format of log lines.
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value_t = LogFormat::Human)]
    pub log_format: LogFormat,

    /// The log level (error, warn, info, debug, trace), or directives such as `info,message_service=debug`.
    #[arg(long, env = "LOG_LEVEL", default_value = "info", value_name = "LEVEL")]
    pub log_level: String,

    /// A web origin whose pages may call over gRPC-Web, such as <https://chat.example> or <capacitor://localhost>; pages of
    /// others are refused. Repeat it or separate several by commas. None by default.
    #[arg(long, env = "CORS_ALLOW_ORIGIN", value_delimiter = ',', value_name = "ORIGIN")]
    pub cors_allow_origin: Vec<String>,

    /// A host name that is answered beside the loopback names while listening on loopback: the one that a proxy on this machine
    /// passes on, or by which an emulator or a forwarded port calls. Repeat it or separate several by commas. None by default.
    #[arg(long, env = "ALLOW_HOST", value_delimiter = ',', value_name = "HOST")]
    pub allow_host: Vec<String>,

    /// Address for Prometheus metrics (/metrics, no authentication); port 0 takes a free port. Off by default.
    #[arg(long, env = "ADMIN_LISTEN", value_name = "ADDRESS")]
    pub admin_listen: Option<String>,

    /// Collector for traces (OTLP over gRPC), such as <http://127.0.0.1:4317>. Off by default.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,

    /// Fraction of calls to trace, from 0 to 1, unless the caller has decided already.
    #[arg(long, env = "OTEL_TRACES_SAMPLER_ARG", default_value = "1", value_name = "RATIO")]
    pub trace_ratio: String,

    /// Allow listening beyond loopback although callers need no token: every client that reaches the port can act for any user.
    #[arg(long, env = "INSECURE_ALLOW_UNAUTHENTICATED", value_parser = BoolishValueParser::new())]
    pub insecure_allow_unauthenticated: bool,

    /// Maximum number of open client connections.
    #[arg(long, env = "MAX_CONNECTIONS", default_value = "10000", value_name = "N")]
    pub max_connections: String,

    /// Maximum number of open connections of one client address, or of one /64 network in IPv6. `off` sets no limit: for a proxy,
    /// whose clients all have its address. Default: 512, or off while listening on loopback.
    #[arg(long, env = "MAX_CONNECTIONS_PER_ADDRESS", value_name = "N")]
    pub max_connections_per_address: Option<String>,

    /// Maximum number of open streams, over all connections. One beyond is refused, and may be tried again.
    #[arg(long, env = "MAX_STREAMS", default_value = "20000", value_name = "N")]
    pub max_streams: String,

    /// Time for which new connections are still accepted after SIGTERM, SIGINT or SIGHUP, until load balancers have noticed.
    #[arg(long, env = "DRAIN_ACCEPT", default_value = "3s", value_name = "DURATION")]
    pub drain_accept: String,

    /// Time after SIGTERM at which connections that are still open are closed. Includes --drain-accept.
    #[arg(long, env = "DRAIN_TIMEOUT", default_value = "25s", value_name = "DURATION")]
    pub drain_timeout: String,

    /// Maximum number of database connections of each service.
    #[arg(long, env = "DATABASE_CONNECTIONS", default_value = "16", value_name = "N")]
    pub database_connections: String,

    /// Timeout of a database call (10ms to 1h).
    #[arg(long, env = "DATABASE_TIMEOUT", default_value = "5s", value_name = "DURATION")]
    pub database_timeout: String,
}

/// [`SharedArgs`] as values.
#[derive(Debug, Clone)]
pub struct SharedConfig {
    /// Who may call.
    pub auth: auth::Settings,
    /// The format of log lines.
    pub log_format: LogFormat,
    /// The log level, as `tracing_subscriber` directives.
    pub log_level: String,
    /// Web origins that may call over gRPC-Web.
    pub cors_allow_origin: Vec<Origin>,
    /// Host names that are answered beside the loopback names.
    pub allow_host: Vec<HostName>,
    /// The address for metrics, if any.
    pub admin_listen: Option<SocketAddr>,
    /// The collector for traces, if any.
    pub otlp_endpoint: Option<String>,
    /// The fraction of calls to trace that begin a trace, 0 to 1.
    pub trace_ratio: f64,
    /// Allows listening beyond loopback without authentication.
    pub insecure_allow_unauthenticated: bool,
    /// The most connections open at a time, 1 or more.
    pub max_connections: usize,
    /// The limit of connections of one address.
    pub max_connections_per_address: PerAddress,
    /// The most streams open at a time, 1 or more.
    pub max_streams: usize,
    /// The time for which a draining server still accepts connections.
    pub drain_accept: Duration,
    /// When a draining server closes connections that are still open.
    pub drain_timeout: Duration,
    /// Size of the pool, 2 to 1,000.
    pub database_connections: u32,
    /// The longest a database call may take.
    pub database_timeout: Duration,
}

/// The limit of open connections of one client address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PerAddress {
    /// Depends on the address to listen on.
    Usual,
    /// No limit.
    Off,
    /// At most this many, 1 or more.
    Most(usize),
}

impl PerAddress {
    /// Returns the limit while listening on this address. On loopback all clients have the same address.
    pub fn limit(self, listen: SocketAddr) -> Option<usize> {
        match self {
            Self::Usual => (!listen.ip().is_loopback()).then_some(USUAL_PER_ADDRESS),
            Self::Off => None,
            Self::Most(most) => Some(most),
        }
    }
}

/// Far more than the clients of a household or an office open.
const USUAL_PER_ADDRESS: usize = 512;

impl SharedArgs {
    /// Parses the address to listen on, and refuses one that is reachable from other machines unless the operator allows it.
    pub fn listen(&self, name: &str, text: &str, problems: &mut Problems) -> Option<SocketAddr> {
        let address = problems.parse(name, text)?;
        self.check_listen(name, address, problems);
        Some(address)
    }

    /// Refuses to listen beyond loopback while every caller is trusted. `name` is the name of the setting.
    fn check_listen(&self, name: &str, address: SocketAddr, problems: &mut Problems) {
        // What is wrong with these settings is reported with them.
        let auth = self.auth.parse(&mut Problems::default());
        let is_open = auth.is_some_and(|auth| auth.mode != Mode::Required);
        if !address.ip().is_loopback() && is_open && !self.insecure_allow_unauthenticated {
            problems.add(format!(
                "{name}: {address} is reachable from other machines, and without authentication every caller is trusted \
                 with the user ids it sends; give a source of tokens, such as --token-secret-file, listen on 127.0.0.1, or \
                 pass --insecure-allow-unauthenticated if a proxy or firewall in front restricts access"
            ));
        }
    }

    fn per_address(&self, problems: &mut Problems) -> Option<PerAddress> {
        match self.max_connections_per_address.as_deref().map_or("", str::trim) {
            "" => Some(PerAddress::Usual),
            "off" => Some(PerAddress::Off),
            text => problems.number("--max-connections-per-address", text, 1..=1_000_000).map(PerAddress::Most),
        }
    }

    /// Turns text into values, or adds problems and returns `None`.
    pub fn parse(&self, problems: &mut Problems) -> Option<SharedConfig> {
        let cors_allow_origin = problems.list::<Origin>("--cors-allow-origin", &self.cors_allow_origin);
        let allow_host = problems.list::<HostName>("--allow-host", &self.allow_host);
        let log_level = problems.log_level(&self.log_level);
        let admin_listen = self.admin_listen.as_deref().filter(|text| !text.trim().is_empty());
        let admin_listen = admin_listen.map(|text| problems.parse::<SocketAddr>("--admin-listen", text));
        let otlp_endpoint = self.otlp_endpoint.as_deref().map(str::trim).filter(|text| !text.is_empty());
        if otlp_endpoint.is_some_and(|url| !is_plain_url(url)) {
            problems.add("--otlp-endpoint is not http://host:port; traces are sent unencrypted, to a collector nearby");
        }
        let trace_ratio = problems.number("--trace-ratio", &self.trace_ratio, 0.0..=1.0);
        let max_connections = problems.number("--max-connections", &self.max_connections, 1..=1_000_000);
        let max_connections_per_address = self.per_address(problems);
        let max_streams = problems.number("--max-streams", &self.max_streams, 1..=10_000_000);
        let drain_accept = problems.duration("--drain-accept", &self.drain_accept);
        let drain_timeout = problems.duration("--drain-timeout", &self.drain_timeout);
        let database_connections = problems.number("--database-connections", &self.database_connections, 2..=1_000);
        let database_timeout = problems.duration_within("--database-timeout", &self.database_timeout, DATABASE_TIMEOUT);
        if let (Some(accept), Some(timeout)) = (drain_accept, drain_timeout)
            && accept >= timeout
        {
            problems.add("--drain-accept must be shorter than --drain-timeout");
        }
        let auth = self.auth.parse(problems);
        Some(SharedConfig {
            auth: auth?,
            log_format: self.log_format,
            log_level: log_level?,
            cors_allow_origin: cors_allow_origin?,
            allow_host: allow_host?,
            admin_listen: match admin_listen {
                Some(parsed) => Some(parsed?),
                None => None,
            },
            otlp_endpoint: otlp_endpoint.map(str::to_owned),
            trace_ratio: trace_ratio?,
            insecure_allow_unauthenticated: self.insecure_allow_unauthenticated,
            max_connections: max_connections?,
            max_connections_per_address: max_connections_per_address?,
            max_streams: max_streams?,
            drain_accept: drain_accept?,
            drain_timeout: drain_timeout?,
            database_connections: database_connections?,
            database_timeout: database_timeout?,
        })
    }
}

impl SharedConfig {
    /// Returns what logs, metrics and traces are told of them.
    pub fn telemetry(&self) -> telemetry::Settings {
        telemetry::Settings {
            log_format: self.log_format,
            log_level: self.log_level.clone(),
            admin_listen: self.admin_listen,
            allow_host: self.allow_host.clone(),
            otlp_endpoint: self.otlp_endpoint.clone(),
            trace_ratio: self.trace_ratio,
        }
    }
}

/// True for an HTTP URL without a user or a path.
fn is_plain_url(text: &str) -> bool {
    let Ok(url) = text.parse::<http::Uri>() else { return false };
    let plain = url.scheme_str() == Some("http") && matches!(url.path(), "" | "/") && url.query().is_none();
    plain && url.port_u16().is_some() && !text.contains('@')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::parse_flags;

    #[test]
    fn addresses_beyond_loopback_need_a_flag() {
        let problems = |address: &str, flags: &[&str]| {
            let mut problems = Problems::default();
            let listen = parse_flags::<SharedArgs>(flags).unwrap().listen("--listen", address, &mut problems);
            problems.finish(listen).err().map(|problems| problems.to_string())
        };
        assert!(problems("0.0.0.0:50051", &[]).unwrap().contains("--insecure-allow-unauthenticated"));
        assert_eq!(problems("0.0.0.0:50051", &["--insecure-allow-unauthenticated"]), None);
        assert_eq!(problems("127.0.0.1:0", &[]), None);
    }

    fn parsed(flags: &[&str]) -> Result<SharedConfig, String> {
        let mut problems = Problems::default();
        let shared = parse_flags::<SharedArgs>(flags).unwrap().parse(&mut problems);
        problems.finish(shared).map_err(|problems| problems.to_string())
    }

    #[test]
    fn a_word_that_is_no_level_does_not_silence_the_log() {
        for level in ["warn", "INFO", "warning,message_service=debug", "off", "info, sqlx=warn", "hyper[span]=trace"] {
            assert!(parsed(&["--log-level", level]).is_ok(), "{level}");
        }
        assert_eq!(parsed(&["--log-level", "Warning"]).unwrap().log_level, "warn");
        for level in ["verbose", "notice", "info,hyper", "", "hyper=loud"] {
            assert!(parsed(&["--log-level", level]).unwrap_err().contains("--log-level"), "{level}");
        }
    }

    #[test]
    fn a_database_call_has_a_limit() {
        for timeout in ["0s", "1ns", "2h"] {
            let said = parsed(&["--database-timeout", timeout]).unwrap_err();
            assert!(said.contains("between 10ms and 1h"), "{said}");
        }
        assert_eq!(parsed(&["--database-timeout", "250ms"]).unwrap().database_timeout.as_millis(), 250);
    }

    #[test]
    fn the_limit_of_an_address_depends_on_who_can_reach_the_port() {
        let limit = |flags: &[&str], listen: &str| {
            let shared: SharedArgs = parse_flags(flags).unwrap();
            let mut problems = Problems::default();
            let limit = shared.parse(&mut problems).map(|shared| shared.max_connections_per_address);
            problems.finish(limit).map(|limit| limit.limit(listen.parse().unwrap()))
        };
        let flag = "--max-connections-per-address";
        for (flags, listen, expected) in [
            (&[][..], "127.0.0.1:1", None),
            (&[], "[::1]:1", None),
            (&[], "0.0.0.0:1", Some(512)),
            (&[flag, ""], "0.0.0.0:1", Some(512)),
            (&[flag, "off"], "0.0.0.0:1", None),
            (&[flag, "7"], "127.0.0.1:1", Some(7)),
        ] {
            assert_eq!(limit(flags, listen), Ok(expected), "{flags:?} {listen}");
        }
        assert!(limit(&[flag, "0"], "0.0.0.0:1").is_err());
    }

    #[test]
    fn origins_and_hosts_are_lists_and_every_wrong_one_is_named() {
        let parsed = |flags: &[&str]| {
            let shared: SharedArgs = parse_flags(flags).unwrap();
            let mut problems = Problems::default();
            let lists = shared.parse(&mut problems).map(|shared| (shared.cors_allow_origin, shared.allow_host));
            problems.finish(lists)
        };
        let origin = |text: &str| text.parse::<Origin>().unwrap();
        let good =
            ["--cors-allow-origin", "HTTPS://A.example:443/,capacitor://localhost", "--allow-host", "a.example,"];
        let hosts = vec!["a.example".parse::<HostName>().unwrap()];
        assert_eq!(parsed(&good), Ok((vec![origin("https://a.example"), origin("capacitor://localhost")], hosts)));
        assert_eq!(parsed(&["--cors-allow-origin", "", "--allow-host", ""]), Ok((Vec::new(), Vec::new())));
        let bad = ["--cors-allow-origin", "https://a.example/app,*", "--allow-host", "a.example:1"];
        let problems = parsed(&bad).unwrap_err().to_string();
        for named in ["https://a.example/app", "\"*\"", "a.example:1"] {
            assert!(problems.contains(named), "{problems}");
        }
    }
}
