//! Metric handles of the bus.

use service_kit::telemetry::metrics::{Counter, Gauge, counter, gauge};

/// Counts what is received and is no hint of another replica.
pub(super) fn refused() -> Counter {
    counter!("parlance_bus_refused_total")
}

/// Counts the hints and failures of one direction.
#[derive(Debug, Clone)]
pub(super) struct BusMetrics {
    hints: Counter,
    failures: Counter,
    up: Gauge,
}

impl BusMetrics {
    pub(super) fn sending() -> Self {
        Self::new(counter!("parlance_bus_told_total"), "tell")
    }

    pub(super) fn receiving() -> Self {
        Self::new(counter!("parlance_bus_heard_total"), "hear")
    }

    fn new(hints: Counter, direction: &'static str) -> Self {
        let failures = counter!("parlance_bus_failures_total", "direction" => direction);
        let up = gauge!("parlance_bus_up", "direction" => direction);
        up.set(1.0);
        Self { hints, failures, up }
    }

    pub(super) fn succeeded(&self) {
        self.hints.increment(1);
        self.up.set(1.0);
    }

    pub(super) fn failed(&self) {
        self.failures.increment(1);
        self.up.set(0.0);
    }
}
