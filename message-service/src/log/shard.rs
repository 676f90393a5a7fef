//! One writer: takes whatever is waiting into one transaction, and while that runs the next batch gathers. No timer: an
//! idle system answers in one commit.
//!
//! A lost connection does not lose the batch: it runs again until it is answered or its callers' time is over, which is
//! harmless since every item carries a request id or is idempotent. Only a refusal of the data splits a batch.

use std::{
    cell::LazyCell,
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use service_kit::{database::Settings, lifecycle::Lifecycle, telemetry::trace};
use tokio::sync::mpsc;
use tracing::{Instrument, field::Empty};

use super::{
    batch::Batch,
    lane::Lane,
    live::LiveLogs,
    writer::{Work, WriteError},
};
use crate::{
    bus::Exchange,
    domain::{change::Outcome, encoded::EncodedEntry, event::Event, sequence::Position},
    metrics::WriterMetrics,
    storage::{Error, WriterConnection, append::BatchOutcome},
};

#[cfg(feature = "planted-bugs")]
use crate::planted::{self, Bug};

/// How many waiting writes are looked at together.
const MAX_TAKEN: usize = 1024;

const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LAST_PAUSE: Duration = Duration::from_millis(500);

/// Starts one writer and its lane.
pub(super) fn start(
    settings: &Settings,
    live: &LiveLogs,
    exchange: &Exchange,
    lifecycle: &Lifecycle,
) -> mpsc::UnboundedSender<Work> {
    let (sender, receiver) = mpsc::unbounded_channel();
    let storer = || Storer {
        connection: WriterConnection::new(settings.clone()),
        timeout: settings.timeout,
        live: live.clone(),
        exchange: exchange.clone(),
        counted: WriterMetrics::new(),
    };
    let lane = Lane::default();
    let shard = Shard { storer: storer(), lane: lane.clone() };
    lifecycle.spawn("writer", shard.run(receiver, lifecycle.clone()));
    lifecycle.spawn("writer lane", lane.run(storer(), lifecycle.clone()));
    sender
}

struct Shard {
    storer: Storer,
    lane: Lane,
}

impl Shard {
    async fn run(mut self, mut receiver: mpsc::UnboundedReceiver<Work>, lifecycle: Lifecycle) {
        let killed = lifecycle.killed().clone();
        let work = async {
            let mut taken = Vec::new();
            loop {
                let count = tokio::select! {
                    biased;
                    count = receiver.recv_many(&mut taken, MAX_TAKEN) => count,
                    () = lifecycle.closing().cancelled(), if !receiver.is_closed() => {
                        // Nothing new comes in; what waits is still written.
                        receiver.close();
                        continue;
                    }
                };
                if count == 0 {
                    break;
                }
                let mut waiting: VecDeque<Work> = taken.drain(..).collect();
                while !waiting.is_empty() {
                    self.lane.divert(&mut waiting);
                    let batch = Batch::gather(&mut waiting);
                    let locked = self.storer.store(batch, false).await;
                    self.lane.take(locked);
                }
            }
        };
        killed.run_until_cancelled(Box::pin(work)).await;
        self.lane.close();
    }
}

/// Stores batches over a connection of its own and hands what was committed to the live logs, and rings for
/// other replicas.
pub(super) struct Storer {
    connection: WriterConnection,
    timeout: Duration,
    live: LiveLogs,
    exchange: Exchange,
    counted: WriterMetrics,
}

impl Storer {
    /// Stores a batch and answers everyone in it, but for what somebody else holds locked: that is given back, in order. In
    /// the lane no conversation is waited for; elsewhere one that is not free in time makes the batch run again without
    /// waiting, and a lock on another row gives all of it to the lane.
    pub(super) async fn store(&mut self, batch: Batch, in_lane: bool) -> Vec<Work> {
        let mut locked = Vec::new();
        let mut batches = vec![batch];
        while let Some(batch) = batches.pop() {
            match self.try_store(batch, in_lane).await {
                Stored::Answered(more) => locked.extend(more),
                Stored::Halve(batch) => {
                    let (first, second) = batch.split();
                    batches.extend([second, first]);
                }
            }
        }
        locked
    }

    async fn try_store(&mut self, mut batch: Batch, in_lane: bool) -> Stored {
        let mut skip_locked = in_lane;
        let mut pause = Pause::default();
        let mut last = Arc::new(Error::Timeout { limit: self.timeout });
        loop {
            batch.expire(Instant::now(), &WriteError::NotStored(last));
            if batch.is_empty() {
                return Stored::Answered(Vec::new());
            }
            let began = Instant::now();
            let Attempt { error, sent } = match self.append(&batch, skip_locked).await {
                Ok(appended) => {
                    self.counted.committed(&appended, began.elapsed());
                    self.publish(&batch, &appended);
                    return Stored::Answered(batch.answer(&appended));
                }
                Err(attempt) => attempt,
            };
            #[cfg(feature = "planted-bugs")]
            if planted::is(Bug::SwallowedError) {
                return Stored::Answered(batch.answer_as_if_stored());
            }
            let error = Arc::new(error);
            if sent && error.outcome_is_unknown() {
                batch.doubt(&error);
            }
            match Verdict::of(&error, skip_locked) {
                Verdict::Again => {
                    self.counted.retries.increment(1);
                    tracing::warn!(
                        cause = &error as &dyn std::error::Error,
                        "a batch of writes failed and is tried again"
                    );
                }
                Verdict::SkipLocked => {
                    skip_locked = true;
                    last = error;
                    continue;
                }
                // The lane takes one conversation at a time, and halves there: here each step would cost a wait for a lock.
                Verdict::Halve if matches!(*error, Error::LockTimeout(_)) && (!in_lane || batch.len() == 1) => {
                    return Stored::Answered(batch.give_back());
                }
                Verdict::Halve if batch.len() > 1 => return Stored::Halve(batch),
                Verdict::Halve if matches!(*error, Error::Timeout { .. }) => {}
                Verdict::Halve | Verdict::Fail => {
                    batch.fail(&WriteError::NotStored(error));
                    return Stored::Answered(Vec::new());
                }
            }
            pause.wait().await;
            last = error;
        }
    }

    async fn append(&mut self, batch: &Batch, skip_locked: bool) -> Result<BatchOutcome, Attempt> {
        self.connection.open().await.map_err(|error| Attempt { error, sent: false })?;
        #[cfg(feature = "planted-bugs")]
        if planted::is(Bug::AckBeforeCommit) || planted::is(Bug::PublishBeforeCommit) {
            return self.append_early(batch, skip_locked).await.map_err(|error| Attempt { error, sent: true });
        }
        let span = trace::of_all(batch.spans(), |parent| {
            tracing::info_span!(
                parent: parent,
                "append_v1",
                otel.kind = "client",
                db.system.name = "postgresql",
                db.operation.name = "append_v1",
                db.operation.batch.size = batch.len(),
                otel.status_code = Empty,
            )
        });
        let (sends, changes) = (batch.sends(), batch.changes());
        let outcome = self.connection.append(&sends, &changes, skip_locked).instrument(span.clone()).await;
        outcome.map_err(|error| {
            span.record("otel.status_code", "ERROR");
            Attempt { error, sent: true }
        })
    }

    #[cfg(feature = "planted-bugs")]
    async fn append_early(&mut self, batch: &Batch, skip_locked: bool) -> Result<BatchOutcome, Error> {
        // Whatever the call before has left open.
        self.connection.run("COMMIT; BEGIN").await?;
        let appended = self.connection.append(&batch.sends(), &batch.changes(), skip_locked).await?;
        if planted::is(Bug::PublishBeforeCommit) {
            self.publish(batch, &appended);
            tokio::time::sleep(Duration::from_millis(20)).await;
            self.connection.run("COMMIT").await?;
        }
        Ok(appended)
    }

    fn publish(&self, batch: &Batch, appended: &BatchOutcome) {
        let sends = batch.sends();
        for (conversation_id, head) in &appended.heads {
            let frames = LazyCell::new(|| -> Vec<EncodedEntry> {
                let of_this =
                    sends.iter().zip(&appended.sends).filter(|(send, _)| send.conversation_id == *conversation_id);
                let stored = of_this.filter_map(|(send, sent)| Some((send, sent.stored_now()?)));
                stored.map(|(send, stored)| self.live.encode(&Event::message_sent(send, stored))).collect()
            });
            self.live.append_committed(conversation_id, *head, || frames.clone());
            // Sends come first, so that these are all there is if they end at the head.
            if self.exchange.carries_entries()
                && frames.last().is_some_and(|last| Position::from(last.sequence) == *head)
            {
                self.exchange.announce_entries(conversation_id, frames.clone());
            } else {
                self.exchange.announce_commit();
            }
        }
        for (change, outcome) in batch.changes().iter().zip(&appended.changes) {
            if *outcome == Outcome::Done {
                for user_id in change.kind.added_users() {
                    self.live.joined(user_id, std::slice::from_ref(&change.conversation_id));
                }
            }
        }
    }
}

enum Stored {
    /// Everyone was answered but these, which are locked.
    Answered(Vec<Work>),
    /// Something in this batch is refused, too slow or locked, and the rest must not suffer for it.
    Halve(Batch),
}

struct Attempt {
    error: Error,
    /// The statement was sent, so it may have taken effect.
    sent: bool,
}

/// What an error of the whole batch calls for.
enum Verdict {
    Again,
    SkipLocked,
    Halve,
    Fail,
}

impl Verdict {
    fn of(error: &Error, skip_locked: bool) -> Self {
        match error {
            Error::NotConnected(_) | Error::Unavailable(_) | Error::Serialization(_) => Self::Again,
            Error::LockTimeout(_) if !skip_locked => Self::SkipLocked,
            // A row other than a conversation's; or more work than there is time for; or data that cannot be stored.
            Error::LockTimeout(_) | Error::Timeout { .. } | Error::Data(_) | Error::Conflict { .. } => Self::Halve,
            Error::Corrupt(_) | Error::Driver(_) => Self::Fail,
        }
    }
}

/// Grows with every failure in a row.
#[derive(Default)]
pub(super) struct Pause(Duration);

impl Pause {
    pub(super) async fn wait(&mut self) {
        self.0 = (self.0 * 2).clamp(FIRST_PAUSE, LAST_PAUSE);
        tokio::time::sleep(self.0.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
    }
}
