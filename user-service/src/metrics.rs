//! The metrics of user-service.

use service_kit::telemetry::metrics::{Kind, Metric};

/// The metrics that only user-service has.
pub(crate) const METRICS: &[Metric] = &[
    Metric {
        name: "parlance_lookup_batch_users",
        kind: Kind::Histogram,
        help: "Users that one merged query looked up.",
    },
    Metric { name: "parlance_lookup_seconds", kind: Kind::Histogram, help: "Duration of merged lookup queries." },
    Metric {
        name: "parlance_lookups_rejected_total",
        kind: Kind::Counter,
        help: "Lookups refused because too many were waiting.",
    },
    Metric { name: "parlance_watchers", kind: Kind::Gauge, help: "Open streams of user changes (WatchUsers)." },
    Metric {
        name: "parlance_changes_told_total",
        kind: Kind::Counter,
        help: "Items published to watchers, by kind: changed (a user) or ready (all later changes follow).",
    },
    Metric {
        name: "parlance_changes_failures_total",
        kind: Kind::Counter,
        help: "Polls of the outbox that failed. While they fail, no changes are published.",
    },
];
