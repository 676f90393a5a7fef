//! Descriptions of the metrics of message-service. Each module holds the handles that it counts with.

use service_kit::telemetry::metrics::{Kind, Metric};

/// The metrics that only message-service has.
pub(crate) const METRICS: &[Metric] = &[
    Metric {
        name: "parlance_writer_batch_items",
        kind: Kind::Histogram,
        help: "Sends and changes in one transaction.",
    },
    Metric {
        name: "parlance_writer_commit_seconds",
        kind: Kind::Histogram,
        help: "Duration of the writers' transactions, including the flush to disk.",
    },
    Metric {
        name: "parlance_writer_entries_total",
        kind: Kind::Counter,
        help: "Sends and changes, by outcome: stored, repeated (a harmless retry) or refused.",
    },
    Metric {
        name: "parlance_writer_retries_total",
        kind: Kind::Counter,
        help: "Batches that were retried after their connection failed.",
    },
    Metric {
        name: "parlance_writer_locked_total",
        kind: Kind::Counter,
        help: "Writes that had to wait for a lock on their conversation.",
    },
    Metric {
        name: "parlance_writer_rejected_total",
        kind: Kind::Counter,
        help: "Writes refused with RESOURCE_EXHAUSTED because the queue was full.",
    },
    Metric { name: "parlance_writer_waiting_bytes", kind: Kind::Gauge, help: "Size of the write queue." },
    Metric {
        name: "parlance_writer_waiting_bytes_max",
        kind: Kind::Gauge,
        help: "Limit of the write queue; beyond it writes are refused.",
    },
    Metric {
        name: "parlance_live_subscriptions",
        kind: Kind::Gauge,
        help: "Open streams: of one conversation (StreamMessages) or of all of a user's conversations (Subscribe, Chat).",
    },
    Metric {
        name: "parlance_live_conversations",
        kind: Kind::Gauge,
        help: "Conversations with subscribers at this replica.",
    },
    Metric {
        name: "parlance_live_ring_bytes",
        kind: Kind::Gauge,
        help: "Memory used by the latest entries of followed conversations.",
    },
    Metric { name: "parlance_live_ring_bytes_max", kind: Kind::Gauge, help: "Limit of that memory." },
    Metric {
        name: "parlance_live_entries_total",
        kind: Kind::Counter,
        help: "Entries delivered to subscribers, by source: ring (memory) or page (the database).",
    },
    Metric {
        name: "parlance_live_page_seconds",
        kind: Kind::Histogram,
        help: "Duration of database reads for subscribers that are behind; equal reads are shared.",
    },
    Metric {
        name: "parlance_live_lag_entries",
        kind: Kind::Histogram,
        help: "Number of entries that a subscriber was behind when it read a page.",
    },
    Metric {
        name: "parlance_directory_answers_total",
        kind: Kind::Counter,
        help: "Lookups of single users, by source: fresh (cached), asked (returned by user-service), last (fallback while \
               user-service cannot be reached) or none (refused with UNAVAILABLE).",
    },
    Metric {
        name: "parlance_directory_call_seconds",
        kind: Kind::Histogram,
        help: "Duration of calls to user-service, by outcome: answered or failed.",
    },
    Metric { name: "parlance_directory_users", kind: Kind::Gauge, help: "Cached users." },
    Metric {
        name: "parlance_directory_following",
        kind: Kind::Gauge,
        help: "1 while change notifications of user-service arrive, else 0: users are then cached for at most 2 s.",
    },
    Metric {
        name: "parlance_bus_refused_total",
        kind: Kind::Counter,
        help: "Messages on the bus that no replica of this database has sent, or that came again or late.",
    },
    Metric { name: "parlance_bus_told_total", kind: Kind::Counter, help: "Hints sent to other replicas." },
    Metric { name: "parlance_bus_heard_total", kind: Kind::Counter, help: "Hints received from other replicas." },
    Metric {
        name: "parlance_bus_failures_total",
        kind: Kind::Counter,
        help: "Failures to send or receive hints, by direction: tell (send) or hear (receive).",
    },
    Metric {
        name: "parlance_bus_up",
        kind: Kind::Gauge,
        help: "0 from a failure of the bus until its next success, else 1, by direction: tell (send) or hear (receive).",
    },
    Metric {
        name: "parlance_outbox_polls_total",
        kind: Kind::Counter,
        help: "Polls of the outbox, by kind: continued (commits since the last poll) or reread (all followed heads).",
    },
    Metric { name: "parlance_outbox_poll_seconds", kind: Kind::Histogram, help: "Duration of polls of the outbox." },
    Metric { name: "parlance_outbox_failures_total", kind: Kind::Counter, help: "Failed polls of the outbox." },
    Metric {
        name: "parlance_outbox_poll_age_seconds",
        kind: Kind::Gauge,
        help: "Age of the last successful poll at the time of the last failed one; 0 once a poll succeeds.",
    },
    Metric { name: "parlance_outbox_trimmed_total", kind: Kind::Counter, help: "Rows removed from the outbox." },
];
