//! Metric handles of the writers.

use std::time::Duration;

use service_kit::telemetry::metrics::{Counter, Histogram, counter, histogram};

use crate::{domain::change::Outcome, storage::append::BatchOutcome};

/// The metrics of the writers.
#[derive(Debug, Clone)]
pub(super) struct WriterMetrics {
    items: Histogram,
    seconds: Histogram,
    stored: Counter,
    repeated: Counter,
    refused: Counter,
    locked: Counter,
    pub(super) retries: Counter,
}

impl WriterMetrics {
    pub(super) fn new() -> Self {
        let entries = |outcome: &'static str| counter!("parlance_writer_entries_total", "outcome" => outcome);
        Self {
            items: histogram!("parlance_writer_batch_items"),
            seconds: histogram!("parlance_writer_commit_seconds"),
            stored: entries("stored"),
            repeated: entries("repeated"),
            refused: entries("refused"),
            locked: counter!("parlance_writer_locked_total"),
            retries: counter!("parlance_writer_retries_total"),
        }
    }

    /// Counts a committed batch.
    pub(super) fn committed(&self, appended: &BatchOutcome, after: Duration) {
        let outcomes = appended.sends.iter().map(|sent| sent.outcome).chain(appended.changes.iter().copied());
        let (mut stored, mut repeated, mut refused, mut locked) = (0, 0, 0, 0);
        for outcome in outcomes {
            match outcome {
                Outcome::Done => stored += 1,
                Outcome::Unchanged => repeated += 1,
                Outcome::Locked => locked += 1,
                _ => refused += 1,
            }
        }
        self.items.record((stored + repeated + refused + locked) as f64);
        self.seconds.record(after);
        self.stored.increment(stored);
        self.repeated.increment(repeated);
        self.refused.increment(refused);
        self.locked.increment(locked);
    }
}
