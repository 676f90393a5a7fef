//! Metrics in Prometheus's terms. They are kept only where an admin port is configured; elsewhere counting costs nothing.
//!
//! Metrics are named where they are counted. Their help texts are in one table per crate, passed to [`describe`], so that the
//! page explains itself and the documentation can be compared with it.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

pub use metrics::{Counter, Gauge, Histogram, Label, SharedString, counter, gauge, histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use crate::lifecycle::Lifecycle;

/// The interval at which gauges are read that are not kept by events.
const EVERY: Duration = Duration::from_secs(5);

/// From half a millisecond, which is less than one commit takes, to the default deadline.
const SECONDS: [f64; 15] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Buckets for counts, such as the size of a batch.
const COUNTS: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// The kind of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution of values.
    Histogram,
}

/// One metric, as the page explains it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// The name.
    pub name: &'static str,
    /// The kind.
    pub kind: Kind,
    /// The help text, one sentence.
    pub help: &'static str,
}

/// The metrics of every process.
pub const METRICS: &[Metric] = &[
    Metric { name: "grpc_server_started_total", kind: Kind::Counter, help: "Calls started, by method." },
    Metric {
        name: "grpc_server_handled_total",
        kind: Kind::Counter,
        help: "Calls ended, by method and code; CANCELLED when the caller hung up.",
    },
    Metric {
        name: "grpc_server_handling_seconds",
        kind: Kind::Histogram,
        help: "Duration of calls, by method; of a stream, the time it was open.",
    },
    Metric { name: "parlance_build_info", kind: Kind::Gauge, help: "Always 1; the labels name the build." },
    Metric {
        name: "parlance_serving",
        kind: Kind::Gauge,
        help: "1 while the service is ready for calls, 0 while it starts, drains or has no database; by service.",
    },
    Metric { name: "parlance_connections", kind: Kind::Gauge, help: "Open client connections." },
    Metric {
        name: "parlance_connections_refused_total",
        kind: Kind::Counter,
        help: "Connections closed at once because there were too many.",
    },
    Metric {
        name: "parlance_tls_handshakes_failed_total",
        kind: Kind::Counter,
        help: "TLS handshakes that failed or took too long.",
    },
    Metric {
        name: "parlance_tls_reload_failed_total",
        kind: Kind::Counter,
        help: "Attempts to read the files of TLS again that failed: what was read before is still used.",
    },
    Metric {
        name: "parlance_tls_certificate_expire_timestamp_seconds",
        kind: Kind::Gauge,
        help: "When the certificate of the server expires, in seconds since 1970.",
    },
    Metric {
        name: "parlance_database_connections",
        kind: Kind::Gauge,
        help: "Connections of the pool to PostgreSQL, by pool and state (used or idle).",
    },
    Metric {
        name: "parlance_database_connections_max",
        kind: Kind::Gauge,
        help: "Maximum number of connections of the pool, by pool.",
    },
    Metric {
        name: "parlance_database_wait_seconds",
        kind: Kind::Histogram,
        help: "Time that calls waited for a connection of the pool, by pool.",
    },
    Metric {
        name: "parlance_database_call_seconds",
        kind: Kind::Histogram,
        help: "Duration of calls to PostgreSQL once they had a connection of the pool, by pool.",
    },
    Metric {
        name: "parlance_database_errors_total",
        kind: Kind::Counter,
        help: "Calls to PostgreSQL over the pool that failed, by pool and kind of error.",
    },
    Metric {
        name: "parlance_auth_reload_failed_total",
        kind: Kind::Counter,
        help: "Failed attempts to read token keys from files or to fetch them; the old keys stay in use.",
    },
];

/// The recorder of metrics. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Recorder {
    handle: PrometheusHandle,
}

/// The recorder of this process, once there is one.
static INSTALLED: Mutex<Option<PrometheusHandle>> = Mutex::new(None);

/// Starts to keep metrics. Earlier counts are lost.
pub(super) fn install(name: &'static str) -> Result<Recorder, BuildError> {
    let mut installed = installed();
    let handle = if let Some(handle) = &*installed {
        handle.clone()
    } else {
        let seconds = Matcher::Suffix("_seconds".to_owned());
        let builder = PrometheusBuilder::new().set_buckets_for_metric(seconds, &SECONDS)?.set_buckets(&COUNTS)?;
        installed.insert(builder.install_recorder()?).clone()
    };
    drop(installed);
    describe(METRICS);
    gauge!("parlance_build_info", "process" => name, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    Ok(Recorder { handle })
}

impl Recorder {
    /// The page.
    pub(super) fn render(&self) -> String {
        self.handle.render()
    }

    /// Processes samples also while there are no scrapes, so that they do not pile up.
    pub(super) async fn keep(self) {
        loop {
            tokio::time::sleep(EVERY).await;
            self.handle.run_upkeep();
        }
    }
}

fn installed() -> MutexGuard<'static, Option<PrometheusHandle>> {
    INSTALLED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Adds help texts to the page.
pub fn describe(metrics: &[Metric]) {
    for Metric { name, kind, help } in metrics.iter().copied() {
        match kind {
            Kind::Counter => metrics::describe_counter!(name, help),
            Kind::Gauge => metrics::describe_gauge!(name, help),
            Kind::Histogram => metrics::describe_histogram!(name, help),
        }
    }
}

/// Calls `read` every 5 s until the lifecycle is closing, to set gauges. Does nothing where no metrics are kept.
pub fn watch(lifecycle: &Lifecycle, mut read: impl FnMut() + Send + 'static) {
    if installed().is_none() {
        return;
    }
    let stages = lifecycle.clone();
    lifecycle.spawn_job("metrics", async move {
        let work = async {
            loop {
                read();
                tokio::time::sleep(EVERY).await;
            }
        };
        stages.closing().run_until_cancelled(work).await;
    });
}
