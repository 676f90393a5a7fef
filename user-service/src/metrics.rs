//! What user-service counts, and what each number says.

use service_kit::telemetry::metrics::{Kind, Metric};

/// What user-service tells beside what every service does.
pub(crate) const METRICS: &[Metric] = &[
    Metric {
        name: "parlance_lookup_batch_users",
        kind: Kind::Histogram,
        help: "Users that one query looked up for all who asked at the time.",
    },
    Metric { name: "parlance_lookup_seconds", kind: Kind::Histogram, help: "How long such queries took." },
    Metric {
        name: "parlance_lookups_rejected_total",
        kind: Kind::Counter,
        help: "Lookups refused because too many were waiting.",
    },
    Metric { name: "parlance_watchers", kind: Kind::Gauge, help: "Streams of changes that are open (WatchUsers)." },
    Metric {
        name: "parlance_changes_told_total",
        kind: Kind::Counter,
        help: "What was told to those who watch, by kind: changed (a user) or ready (from here on all is told).",
    },
    Metric {
        name: "parlance_changes_failures_total",
        kind: Kind::Counter,
        help: "Looks for changes that failed; while they do, nothing is told.",
    },
];
