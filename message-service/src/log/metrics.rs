//! Metric handles of live logs, subscriptions and the reading of the outbox.

use service_kit::telemetry::metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

/// The metrics of live logs and their subscribers.
#[derive(Debug, Clone)]
pub(super) struct LiveLogMetrics {
    pub(super) from_ring: Counter,
    pub(super) from_page: Counter,
    pub(super) page_seconds: Histogram,
    pub(super) lag: Histogram,
    one: Gauge,
    all: Gauge,
    conversations: Gauge,
    ring_bytes: Gauge,
}

impl LiveLogMetrics {
    pub(super) fn new() -> Self {
        let entries = |source: &'static str| counter!("parlance_live_entries_total", "source" => source);
        let open = |of: &'static str| gauge!("parlance_live_subscriptions", "of" => of);
        Self {
            from_ring: entries("ring"),
            from_page: entries("page"),
            page_seconds: histogram!("parlance_live_page_seconds"),
            lag: histogram!("parlance_live_lag_entries"),
            one: open("one"),
            all: open("all"),
            conversations: gauge!("parlance_live_conversations"),
            ring_bytes: gauge!("parlance_live_ring_bytes"),
        }
    }

    /// Sets the current number of live logs and the bytes in their rings.
    pub(super) fn set_totals(&self, conversations: usize, ring_bytes: usize) {
        self.conversations.set(conversations as f64);
        self.ring_bytes.set(ring_bytes as f64);
    }

    /// Counts a subscription as open until the guard is dropped.
    pub(super) fn open_subscription(&self, to_all: bool) -> SubscriptionGuard {
        let gauge = if to_all { &self.all } else { &self.one };
        gauge.increment(1);
        SubscriptionGuard(gauge.clone())
    }
}

/// An open subscription, counted until this is dropped.
pub(super) struct SubscriptionGuard(Gauge);

impl Drop for SubscriptionGuard {
    fn drop(&mut self) {
        self.0.decrement(1);
    }
}

/// The metrics of polling the outbox.
#[derive(Debug, Clone)]
pub(super) struct OutboxMetrics {
    pub(super) continued: Counter,
    pub(super) reread: Counter,
    pub(super) seconds: Histogram,
    pub(super) failures: Counter,
    pub(super) age: Gauge,
}

impl OutboxMetrics {
    pub(super) fn new() -> Self {
        let polls = |kind: &'static str| counter!("parlance_outbox_polls_total", "kind" => kind);
        let age = gauge!("parlance_outbox_poll_age_seconds");
        age.set(0.0);
        Self {
            continued: polls("continued"),
            reread: polls("reread"),
            seconds: histogram!("parlance_outbox_poll_seconds"),
            failures: counter!("parlance_outbox_failures_total"),
            age,
        }
    }
}
