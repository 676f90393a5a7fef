//! Telemetry: logs on standard error, metrics on the admin port, traces to a collector. None of them
//! may contain a message text, a token or a connection string; the code that logs ensures that.

mod admin;
pub mod metrics;
mod process;
pub mod trace;

use std::{io::IsTerminal, net::SocketAddr};

use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::{net::TcpListener, task::JoinSet};
use tracing::{Level, Metadata, level_filters::LevelFilter};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{FilterExt, filter_fn},
    fmt,
    layer::SubscriberExt,
    registry,
    util::SubscriberInitExt,
};

use crate::{config::LogFormat, lifecycle::BoxError, names::HostName};

/// What is logged, measured and traced, and where to.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The format of log lines.
    pub log_format: LogFormat,
    /// The log level, as `tracing_subscriber` directives.
    pub log_level: String,
    /// The address for metrics, if any.
    pub admin_listen: Option<SocketAddr>,
    /// Host names that are answered there beside the loopback names.
    pub allow_host: Vec<HostName>,
    /// The collector for traces, if any.
    pub otlp_endpoint: Option<String>,
    /// The fraction of calls to trace that begin a trace, 0 to 1.
    pub trace_ratio: f64,
}

/// The telemetry of a process, shared by the services in it.
#[derive(Debug, Default)]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
    admin: Option<Admin>,
}

#[derive(Debug)]
struct Admin {
    address: SocketAddr,
    /// Aborted when this is dropped.
    _tasks: JoinSet<()>,
}

impl Telemetry {
    /// Starts everything that the settings enable. `process` is the name in dashboards and traces.
    ///
    /// # Errors
    /// When the admin port is taken, or the collector's address cannot be used.
    pub async fn start(process: &'static str, config: &Settings) -> Result<Self, BoxError> {
        let traces = match &config.otlp_endpoint {
            Some(endpoint) => Some(trace::provider(process, endpoint, config.trace_ratio)?),
            None => None,
        };
        install(config, traces.as_ref());
        let admin = match config.admin_listen {
            Some(listen) => Some(Admin::start(process, listen, &config.allow_host).await?),
            None => None,
        };
        Ok(Self { traces, admin })
    }

    /// Returns the address of the admin port: the configured one, with the port that was taken.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(|admin| admin.address)
    }

    /// Sends the traces that still wait, for a few seconds at most, and closes the admin port.
    pub async fn end(self) {
        if let Some(traces) = self.traces {
            // It waits for the collector, which must not stop the tasks that talk to it.
            let sent = tokio::task::spawn_blocking(move || traces.shutdown_with_timeout(trace::EXPORT_LIMIT)).await;
            if let Ok(Err(cause)) = sent {
                tracing::debug!(%cause, "the last traces were not sent");
            }
        }
    }
}

impl Admin {
    async fn start(name: &'static str, listen: SocketAddr, allow_hosts: &[HostName]) -> Result<Self, BoxError> {
        let refused = |cause| format!("cannot listen on {listen} for metrics: {cause}");
        let listener = TcpListener::bind(listen).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let recorder = metrics::install(name)?;
        metrics::describe(process::METRICS);
        let mut tasks = JoinSet::new();
        tasks.spawn(recorder.clone().keep());
        // As on the port for calls: beyond loopback, names are not known here.
        let hosts = listen.ip().is_loopback().then(|| allow_hosts.into());
        tasks.spawn(admin::serve(listener, recorder, hosts));
        tracing::info!(%address, "metrics are at /metrics");
        Ok(Self { address, _tasks: tasks })
    }
}

/// Starts logs only, for commands that do not serve.
pub fn logs(config: &Settings) {
    install(config, None);
}

/// Returns true for the lines of the NATS client about each attempt to connect: the bus logs the first, and the return.
fn is_repeated(line: &Metadata<'_>) -> bool {
    *line.level() <= Level::INFO && line.target().starts_with("async_nats")
}

/// Installs the process's subscriber. A second call changes nothing, so that tests can run several services in one process.
fn install(config: &Settings, traces: Option<&SdkTracerProvider>) {
    let filter = EnvFilter::try_new(&config.log_level).unwrap_or_else(|_| EnvFilter::new("info"));
    let filter = filter.and(filter_fn(|line| !is_repeated(line)).with_max_level_hint(LevelFilter::TRACE));
    let lines: Box<dyn Layer<registry::Registry> + Send + Sync> = match config.log_format {
        LogFormat::Human => fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .with_target(false)
            .with_filter(filter)
            .boxed(),
        LogFormat::Json => fmt::layer()
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .with_writer(std::io::stderr)
            .with_filter(filter)
            .boxed(),
    };
    if tracing_subscriber::registry().with(lines).with(traces.map(trace::layer)).try_init().is_err() {
        tracing::debug!("logging is already set up");
    }
}
