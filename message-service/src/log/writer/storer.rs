//! Stores batches, and hands the committed ones to the live logs and the other replicas.
//!
//! A lost connection does not lose the batch: it runs again until it succeeds or the deadlines of its callers have passed,
//! which is harmless since every item has a request id or is idempotent. Only a refusal of the data splits a batch.

use std::{
    cell::LazyCell,
    ops::Deref,
    sync::Arc,
    time::{Duration, Instant},
};

use service_kit::{causes::causes, telemetry::trace};
use tracing::{Instrument, Span, field::Empty};

use super::{
    batch::Batch,
    given_up::GivenUp,
    halves::{Attempted, Halves},
    metrics::WriterMetrics,
    verdict::{Run, Verdict},
    work::{Work, WriteError, retry_backoff},
};
use crate::{
    bus::Exchange,
    domain::{
        change::{Outcome, SendOutcome},
        encoded::EncodedEntry,
        event::Event,
        ids::ConversationId,
        message::NewMessage,
        sequence::Position,
    },
    log::live::LiveLogs,
    planted,
    storage::{Error, Store, WriterConnection, append::BatchOutcome},
};

/// The longest time of one try. A write waits for longer, so that a second one happens.
const TRY_TIMEOUT: Duration = Duration::from_secs(2);

/// Stores batches over its own connection.
pub(super) struct Storer {
    connection: WriterConnection,
    timeout: Duration,
    live: LiveLogs,
    exchange: Exchange,
    metrics: WriterMetrics,
    given_up: GivenUp,
}

struct FailedAppend {
    error: Error,
    /// The statement was sent, so it may have taken effect.
    sent: bool,
}

impl Storer {
    /// Opens no connection yet.
    pub(super) fn new(store: &Store, live: &LiveLogs, exchange: &Exchange, given_up: &GivenUp) -> Self {
        Self {
            connection: store.writer_connection(TRY_TIMEOUT),
            timeout: TRY_TIMEOUT,
            live: live.clone(),
            exchange: exchange.clone(),
            metrics: WriterMetrics::new(),
            given_up: given_up.clone(),
        }
    }

    /// Returns the current time.
    pub(super) fn now(&self) -> Instant {
        self.live.clock().now()
    }

    /// Stores a batch and answers its waiters; returns the writes whose conversations are locked, in order. In the lane no
    /// lock is waited for. Elsewhere a lock that is not granted in time makes the batch run again without waiting, and a
    /// lock on another row gives all of it to the lane.
    pub(super) async fn store(&mut self, batch: Batch, in_lane: bool) -> Vec<Work> {
        let mut halves = Halves::of(batch);
        while let Some(part) = halves.next() {
            let attempted = self.try_store(part, in_lane).await;
            halves.note(attempted);
        }
        halves.given_back()
    }

    async fn try_store(&mut self, mut batch: Batch, in_lane: bool) -> Attempted {
        let mut skip_locked = in_lane;
        let mut backoff = retry_backoff();
        let mut last = Arc::new(Error::Timeout { limit: self.timeout });
        loop {
            batch.expire(self.now(), &WriteError::not_stored(last), &self.given_up);
            if batch.is_empty() {
                return Attempted::Answered(Vec::new());
            }
            let FailedAppend { error, sent } = match self.append_and_publish(&batch, skip_locked).await {
                Ok(appended) => return Attempted::Answered(batch.answer(&appended)),
                Err(failed) => failed,
            };
            planted::swallow_error!(batch);
            let error = Arc::new(error);
            if sent && error.outcome_is_unknown() {
                batch.mark_in_doubt(&error);
            }
            match Verdict::of(&error, Run { skip_locked, in_lane, items: batch.len() }) {
                Verdict::Rerun => self.count_rerun(&error),
                Verdict::RerunSlow => {}
                Verdict::SkipLocked => {
                    skip_locked = true;
                    last = error;
                    continue;
                }
                Verdict::GiveBack => return Attempted::Answered(batch.give_back()),
                Verdict::Halve => return Attempted::Halve(batch),
                Verdict::Fail => {
                    batch.fail(&WriteError::NotStored(error), &self.given_up, self.now());
                    return Attempted::Answered(Vec::new());
                }
            }
            backoff.wait().await;
            last = error;
        }
    }

    fn count_rerun(&self, error: &Arc<Error>) {
        self.metrics.retries.increment(1);
        tracing::warn!(cause = causes(error), "a batch of writes failed and is retried");
    }

    async fn append_and_publish(&mut self, batch: &Batch, skip_locked: bool) -> Result<BatchOutcome, FailedAppend> {
        let began = self.now();
        let appended = self.append(batch, skip_locked).await?;
        self.metrics.committed(&appended, self.now() - began);
        self.publish(batch, &appended);
        Ok(appended)
    }

    async fn append(&mut self, batch: &Batch, skip_locked: bool) -> Result<BatchOutcome, FailedAppend> {
        self.connection.open().await.map_err(|error| FailedAppend { error, sent: false })?;
        let span = append_span(batch);
        self.append_once(batch, skip_locked).instrument(span.clone()).await.map_err(|error| {
            span.record("otel.status_code", "ERROR");
            FailedAppend { error, sent: true }
        })
    }

    async fn append_once(&mut self, batch: &Batch, skip_locked: bool) -> Result<BatchOutcome, Error> {
        planted::leave_open!(self.connection);
        let appended = self.connection.append(&batch.sends(), &batch.changes(), skip_locked).await?;
        planted::publish_early!(self, batch, &appended);
        Ok(appended)
    }

    fn publish(&self, batch: &Batch, appended: &BatchOutcome) {
        let sends = batch.sends();
        let written = batch.written(appended);
        for (conversation_id, head) in &appended.heads {
            let entries = LazyCell::new(|| self.encode_stored(conversation_id, &sends, &appended.sends));
            self.publish_commit(conversation_id, *head, &entries, written.contains(conversation_id));
        }
        for (change, outcome) in batch.changes().iter().zip(&appended.changes) {
            if *outcome == Outcome::Done {
                for user_id in change.kind.added_users() {
                    self.live.notify_joined(user_id, std::slice::from_ref(&change.conversation_id));
                }
            }
        }
    }

    fn publish_commit(
        &self,
        conversation_id: &ConversationId,
        head: Position,
        entries: &impl Deref<Target = Vec<EncodedEntry>>,
        is_written: bool,
    ) {
        if !self.live.append_committed(self.connection.epoch(), conversation_id, head, || entries.to_vec()) {
            // The database was replaced, and this process has yet to find out.
            self.exchange.request_poll();
        }
        if !is_written {
            // Refusals and repeats are no news for the other replicas.
            return;
        }
        // Sends come first, so these are all entries of the commit if they end at the head.
        let is_whole = || entries.last().is_some_and(|last| Position::from(last.sequence) == head);
        if self.exchange.carries_entries() && is_whole() {
            self.exchange.announce_entries(conversation_id, entries.to_vec());
        } else {
            self.exchange.announce_commit();
        }
    }

    /// Encodes the messages of one conversation that were stored by these sends.
    fn encode_stored(
        &self,
        conversation_id: &ConversationId,
        sends: &[&NewMessage],
        outcomes: &[SendOutcome],
    ) -> Vec<EncodedEntry> {
        let stored = sends
            .iter()
            .zip(outcomes)
            .filter(|(send, _)| send.conversation_id == *conversation_id)
            .filter_map(|(send, sent)| Some((send, sent.stored_now()?)));
        stored.map(|(send, stored)| self.live.encode(&Event::message_sent(send, stored))).collect()
    }
}

fn append_span(batch: &Batch) -> Span {
    trace::of_all(batch.spans(), |parent| {
        tracing::info_span!(
            parent: parent,
            "append_v1",
            otel.kind = "client",
            db.system.name = "postgresql",
            db.operation.name = "append_v1",
            db.operation.batch.size = batch.len(),
            otel.status_code = Empty,
        )
    })
}
