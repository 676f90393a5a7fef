//! What message-service counts, and what each number says. The parts of the service count with the handles made here.

use service_kit::telemetry::metrics::{Counter, Gauge, Kind, Metric, counter, gauge};

/// What message-service tells beside what every service does.
pub(crate) const METRICS: &[Metric] = &[
    Metric {
        name: "parlance_writer_batch_items",
        kind: Kind::Histogram,
        help: "Sends and changes that were stored by one transaction.",
    },
    Metric {
        name: "parlance_writer_commit_seconds",
        kind: Kind::Histogram,
        help: "How long transactions of the writers took, with their flush.",
    },
    Metric {
        name: "parlance_writer_entries_total",
        kind: Kind::Counter,
        help: "Sends and changes that were answered, by outcome: stored, repeated (a harmless retry) or refused.",
    },
    Metric {
        name: "parlance_writer_retries_total",
        kind: Kind::Counter,
        help: "Batches that failed with their connection and ran again.",
    },
    Metric {
        name: "parlance_writer_locked_total",
        kind: Kind::Counter,
        help: "Writes that had to wait because somebody else held their conversation locked.",
    },
    Metric {
        name: "parlance_writer_rejected_total",
        kind: Kind::Counter,
        help: "Writes refused with RESOURCE_EXHAUSTED because too much was waiting.",
    },
    Metric {
        name: "parlance_writer_waiting_bytes",
        kind: Kind::Gauge,
        help: "Writes that wait to be stored, in bytes.",
    },
    Metric {
        name: "parlance_writer_waiting_bytes_max",
        kind: Kind::Gauge,
        help: "The most bytes that may wait; beyond that writes are refused.",
    },
    Metric {
        name: "parlance_live_subscriptions",
        kind: Kind::Gauge,
        help: "Streams that are open: of one conversation (StreamMessages) or of all of a user's (Subscribe, Chat).",
    },
    Metric {
        name: "parlance_live_conversations",
        kind: Kind::Gauge,
        help: "Conversations that somebody follows at this replica.",
    },
    Metric {
        name: "parlance_live_ring_bytes",
        kind: Kind::Gauge,
        help: "Memory that the latest entries of followed conversations take.",
    },
    Metric { name: "parlance_live_ring_bytes_max", kind: Kind::Gauge, help: "The most memory that they may take." },
    Metric {
        name: "parlance_live_entries_total",
        kind: Kind::Counter,
        help: "Entries handed to subscribers, by where they came from: ring (memory) or page (the database).",
    },
    Metric {
        name: "parlance_live_page_seconds",
        kind: Kind::Histogram,
        help: "How long reads of the log for those who are behind took; equal ones are one read.",
    },
    Metric {
        name: "parlance_live_lag_entries",
        kind: Kind::Histogram,
        help: "How many entries a subscriber was behind by when it took a page.",
    },
    Metric {
        name: "parlance_directory_answers_total",
        kind: Kind::Counter,
        help: "Questions about single users, by answer: fresh (remembered), asked (of user-service), last (user-service gave \
               none, the last one still holds) or none (refused UNAVAILABLE).",
    },
    Metric {
        name: "parlance_directory_call_seconds",
        kind: Kind::Histogram,
        help: "How long calls to user-service took, by outcome: answered or failed.",
    },
    Metric { name: "parlance_directory_users", kind: Kind::Gauge, help: "Users that answers are remembered of." },
    Metric {
        name: "parlance_directory_following",
        kind: Kind::Gauge,
        help: "1 while user-service tells of changes, else 0: answers are then good for 2 s only.",
    },
    Metric {
        name: "parlance_bus_told_total",
        kind: Kind::Counter,
        help: "Hints that this replica has given to the others.",
    },
    Metric { name: "parlance_bus_heard_total", kind: Kind::Counter, help: "Hints that others have given." },
    Metric {
        name: "parlance_bus_failures_total",
        kind: Kind::Counter,
        help: "Hints that could not be given or heard, by direction: tell or hear.",
    },
    Metric {
        name: "parlance_bus_up",
        kind: Kind::Gauge,
        help: "0 after a failure of the bus and until it works again, else 1, by direction: tell or hear.",
    },
    Metric {
        name: "parlance_outbox_polls_total",
        kind: Kind::Counter,
        help: "Looks into the outbox, by kind: continued (what came since the last one) or reread (all heads that are followed).",
    },
    Metric {
        name: "parlance_outbox_poll_seconds",
        kind: Kind::Histogram,
        help: "How long looks into the outbox took.",
    },
    Metric { name: "parlance_outbox_failures_total", kind: Kind::Counter, help: "Looks into the outbox that failed." },
    Metric {
        name: "parlance_outbox_poll_age_seconds",
        kind: Kind::Gauge,
        help: "How old the last good look was at the last one that failed; 0 once one succeeds.",
    },
    Metric {
        name: "parlance_outbox_trimmed_total",
        kind: Kind::Counter,
        help: "Rows of the outbox that were removed.",
    },
];

/// What the directory counts.
#[derive(Debug, Clone)]
pub(crate) struct DirectoryMetrics {
    pub(crate) fresh: Counter,
    pub(crate) asked: Counter,
    pub(crate) last: Counter,
    pub(crate) none: Counter,
    pub(crate) users: Gauge,
    pub(crate) following: Gauge,
}

impl DirectoryMetrics {
    pub(crate) fn new() -> Self {
        let answers = |answer: &'static str| counter!("parlance_directory_answers_total", "answer" => answer);
        Self {
            fresh: answers("fresh"),
            asked: answers("asked"),
            last: answers("last"),
            none: answers("none"),
            users: gauge!("parlance_directory_users"),
            following: gauge!("parlance_directory_following"),
        }
    }
}

/// What one direction of the bus counts.
#[derive(Debug, Clone)]
pub(crate) struct BusMetrics {
    done: Counter,
    failures: Counter,
    up: Gauge,
}

impl BusMetrics {
    pub(crate) fn telling() -> Self {
        Self::new(counter!("parlance_bus_told_total"), "tell")
    }

    pub(crate) fn hearing() -> Self {
        Self::new(counter!("parlance_bus_heard_total"), "hear")
    }

    fn new(done: Counter, direction: &'static str) -> Self {
        let failures = counter!("parlance_bus_failures_total", "direction" => direction);
        let up = gauge!("parlance_bus_up", "direction" => direction);
        up.set(1.0);
        Self { done, failures, up }
    }

    pub(crate) fn worked(&self) {
        self.done.increment(1);
        self.up.set(1.0);
    }

    pub(crate) fn failed(&self) {
        self.failures.increment(1);
        self.up.set(0.0);
    }
}
