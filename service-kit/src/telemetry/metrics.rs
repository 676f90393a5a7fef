//! Metrics in Prometheus's terms. They are kept only where an admin port is configured; elsewhere counting costs nothing.
//!
//! Whoever counts names the metric where it counts. What each name means is told once, by [`describe`]: every crate has
//! one table of its own, so that the page explains itself and documentation can be held against it.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

pub use metrics::{Counter, Gauge, Histogram, Label, SharedString, counter, gauge, histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use super::process;
use crate::lifecycle::Lifecycle;

/// How often what is not counted as it happens is looked at.
const EVERY: Duration = Duration::from_secs(5);

/// From half a millisecond, which is less than one commit takes, to the default deadline.
const SECONDS: [f64; 15] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// For numbers of things in one batch, or behind.
const COUNTS: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// How often what took, or was, how much.
    Histogram,
}

/// One metric, as the page explains it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// The name.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// What it says, in a sentence.
    pub help: &'static str,
}

/// What every process of ours tells.
pub const METRICS: &[Metric] = &[
    Metric { name: "grpc_server_started_total", kind: Kind::Counter, help: "Calls begun, by method." },
    Metric {
        name: "grpc_server_handled_total",
        kind: Kind::Counter,
        help: "Calls ended, by method and code; CANCELLED when the caller hung up.",
    },
    Metric {
        name: "grpc_server_handling_seconds",
        kind: Kind::Histogram,
        help: "How long calls took, by method; of a stream, how long it was open.",
    },
    Metric { name: "parlance_build_info", kind: Kind::Gauge, help: "Always 1; the labels say which build this is." },
    Metric {
        name: "parlance_serving",
        kind: Kind::Gauge,
        help: "1 while the service is ready for calls, 0 while it starts, drains or has no database; by service.",
    },
    Metric { name: "parlance_connections", kind: Kind::Gauge, help: "Connections of clients that are open." },
    Metric {
        name: "parlance_connections_refused_total",
        kind: Kind::Counter,
        help: "Connections closed at once because there were too many.",
    },
    Metric {
        name: "parlance_database_connections",
        kind: Kind::Gauge,
        help: "Connections of the pool to PostgreSQL, by pool and by whether they are used or idle.",
    },
    Metric {
        name: "parlance_database_connections_max",
        kind: Kind::Gauge,
        help: "The most connections of the pool, by pool.",
    },
    Metric {
        name: "parlance_database_wait_seconds",
        kind: Kind::Histogram,
        help: "How long calls waited for a connection of the pool, by pool.",
    },
    Metric {
        name: "parlance_database_call_seconds",
        kind: Kind::Histogram,
        help: "How long calls to PostgreSQL took once they had a connection of the pool, by pool.",
    },
    Metric {
        name: "parlance_database_errors_total",
        kind: Kind::Counter,
        help: "Calls to PostgreSQL over the pool that failed, by pool and kind of error.",
    },
];

/// Where metrics are kept. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Recorder {
    handle: PrometheusHandle,
}

/// Of this process, once there is one.
static INSTALLED: Mutex<Option<PrometheusHandle>> = Mutex::new(None);

/// Begins to keep metrics. What counted before is not seen.
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
    describe(process::METRICS);
    describe(METRICS);
    gauge!("parlance_build_info", "process" => name, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    Ok(Recorder { handle })
}

impl Recorder {
    /// The page.
    pub(super) fn render(&self) -> String {
        process::look();
        self.handle.render()
    }

    /// Puts away what was counted, also while nobody scrapes, so that it does not pile up.
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

/// Explains metrics on the page.
pub fn describe(metrics: &[Metric]) {
    for Metric { name, kind, help } in metrics.iter().copied() {
        match kind {
            Kind::Counter => metrics::describe_counter!(name, help),
            Kind::Gauge => metrics::describe_gauge!(name, help),
            Kind::Histogram => metrics::describe_histogram!(name, help),
        }
    }
}

/// Looks at what is not counted as it happens, every 5 s from now until the lifecycle is killed; never where no metrics are
/// kept.
pub fn watch(lifecycle: &Lifecycle, mut look: impl FnMut() + Send + 'static) {
    if installed().is_none() {
        return;
    }
    let stages = lifecycle.clone();
    lifecycle.spawn_job("metrics", async move {
        let work = async {
            loop {
                look();
                tokio::time::sleep(EVERY).await;
            }
        };
        stages.closing().run_until_cancelled(work).await;
    });
}
