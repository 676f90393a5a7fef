//! Metric handles of the directory.

use service_kit::telemetry::metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

/// Counts lookups of single users by their source, and the state of the cache.
#[derive(Debug, Clone)]
pub(super) struct DirectoryMetrics {
    pub(super) cached: Counter,
    pub(super) looked_up: Counter,
    pub(super) fallback: Counter,
    pub(super) unavailable: Counter,
    pub(super) users: Gauge,
    pub(super) following: Gauge,
}

impl DirectoryMetrics {
    pub(super) fn new() -> Self {
        let answers = |answer: &'static str| counter!("parlance_directory_answers_total", "answer" => answer);
        Self {
            cached: answers("fresh"),
            looked_up: answers("asked"),
            fallback: answers("last"),
            unavailable: answers("none"),
            users: gauge!("parlance_directory_users"),
            following: gauge!("parlance_directory_following"),
        }
    }
}

/// Measures calls to user-service.
#[derive(Debug, Clone)]
pub(super) struct CallMetrics {
    pub(super) answered: Histogram,
    pub(super) failed: Histogram,
}

impl CallMetrics {
    pub(super) fn new() -> Self {
        let seconds = |outcome: &'static str| histogram!("parlance_directory_call_seconds", "outcome" => outcome);
        Self { answered: seconds("answered"), failed: seconds("failed") }
    }
}
