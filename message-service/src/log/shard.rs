//! One writer: takes whatever is waiting into one transaction, and while that runs the next batch gathers. No timer: an
//! idle system answers in one commit.
//!
//! A lost connection does not lose the batch: it runs again until it is answered or its callers' time is over, which is
//! harmless since every item carries a request id or is idempotent. Only a refusal of the data splits a batch.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use service_kit::{database::Settings, lifecycle::Lifecycle};
use tokio::sync::mpsc;

use super::{
    batch::{Batch, failure},
    lane::Lane,
    live::LiveLogs,
    writer::{Waiter, Work},
};
use crate::{
    domain::conversation::Id,
    storage::{
        Error, WriterConnection,
        append::{Appended, Outcome},
        conversations::NewConversation,
    },
};

/// How many waiting writes are looked at together.
const MAX_TAKEN: usize = 1024;

const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LAST_PAUSE: Duration = Duration::from_millis(500);

/// Starts one writer and its lane.
pub(super) fn start(settings: Settings, live: LiveLogs, lifecycle: &Lifecycle) -> mpsc::UnboundedSender<Work> {
    let (sender, receiver) = mpsc::unbounded_channel();
    let lane = Lane::default();
    let shard = Shard { storage: Storer::new(settings.clone(), live.clone()), lane: lane.clone() };
    lifecycle.spawn("writer", shard.run(receiver, lifecycle.clone()));
    lifecycle.spawn("writer lane", lane.run(Storer::new(settings, live), lifecycle.clone()));
    sender
}

struct Shard {
    storage: Storer,
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
                    self.step(&mut waiting).await;
                }
            }
        };
        killed.run_until_cancelled(Box::pin(work)).await;
        self.lane.close();
    }

    /// One transaction's worth.
    async fn step(&mut self, waiting: &mut VecDeque<Work>) {
        self.lane.divert(waiting);
        if let Some(Work::Create(..)) = waiting.front() {
            if let Some(Work::Create(new, waiter)) = waiting.pop_front() {
                self.storage.create(new, waiter).await;
            }
            return;
        }
        let batch = Batch::gather(waiting);
        let locked = self.storage.store(batch, false).await;
        self.lane.take(locked);
    }
}

/// Stores batches over a connection of its own and hands what was committed to the live logs.
pub(super) struct Storer {
    connection: WriterConnection,
    live: LiveLogs,
}

impl Storer {
    fn new(settings: Settings, live: LiveLogs) -> Self {
        Self { connection: WriterConnection::new(settings), live }
    }

    /// Stores a batch and answers everyone in it, but for what somebody else holds locked: that is given back. With
    /// `skip_locked` no lock is waited for; without, one that is not granted in time makes the batch run again with it.
    pub(super) async fn store(&mut self, batch: Batch, skip_locked: bool) -> Vec<Work> {
        let mut locked = Vec::new();
        let mut batches = vec![batch];
        while let Some(batch) = batches.pop() {
            match self.try_store(batch, skip_locked).await {
                Stored::Answered(more) => locked.extend(more),
                Stored::Refused(batch) => {
                    let (first, second) = batch.split();
                    batches.extend([second, first]);
                }
            }
        }
        locked
    }

    async fn try_store(&mut self, mut batch: Batch, mut skip_locked: bool) -> Stored {
        let mut doubtful = false;
        let mut pause = Pause::default();
        let mut last = None;
        loop {
            if let Some(error) = &last {
                batch.expire(Instant::now(), || failure(error, doubtful));
            }
            if batch.is_empty() {
                return Stored::Answered(Vec::new());
            }
            match self.append(&batch, skip_locked).await {
                Ok(appended) => {
                    self.publish(&batch, &appended);
                    return Stored::Answered(batch.answer(&appended));
                }
                Err(Attempt { error: Error::LockTimeout(_), .. }) if !skip_locked => {
                    skip_locked = true;
                    continue;
                }
                Err(Attempt { error, sent }) => {
                    doubtful |= sent && error.outcome_is_unknown();
                    match Verdict::of(&error) {
                        Verdict::Again => last = Some(note(error)),
                        Verdict::Split if batch.len() > 1 => return Stored::Refused(batch),
                        Verdict::Split | Verdict::Fail => {
                            batch.fail(&failure(&Arc::new(error), doubtful));
                            return Stored::Answered(Vec::new());
                        }
                    }
                }
            }
            pause.wait().await;
        }
    }

    async fn append(&mut self, batch: &Batch, skip_locked: bool) -> Result<Appended, Attempt> {
        self.connection.open().await.map_err(|error| Attempt { error, sent: false })?;
        let outcome = self.connection.append(&batch.sends(), &batch.changes(), skip_locked).await;
        outcome.map_err(|error| Attempt { error, sent: true })
    }

    fn publish(&self, batch: &Batch, appended: &Appended) {
        let sends = batch.sends();
        for (conversation_id, head) in &appended.heads {
            let stored = || {
                let of_this =
                    sends.iter().zip(&appended.sends).filter(|(send, _)| send.conversation_id == *conversation_id);
                of_this
                    .filter(|(_, sent)| sent.outcome == Outcome::Done)
                    .map(|(send, sent)| send.to_event(sent))
                    .collect()
            };
            self.live.committed(conversation_id, *head, stored);
        }
    }

    async fn create(&mut self, new: NewConversation, waiter: Waiter<(Outcome, Id)>) {
        let mut doubtful = false;
        let mut pause = Pause::default();
        let answer = loop {
            let opened = self.connection.open().await;
            let sent = opened.is_ok();
            let outcome = match opened {
                Ok(()) => self.connection.create_conversation(&new).await,
                Err(error) => Err(error),
            };
            match outcome {
                Ok(made) => break Ok(made),
                Err(error) => {
                    doubtful |= sent && error.outcome_is_unknown();
                    let again = matches!(Verdict::of(&error), Verdict::Again);
                    let error = note(error);
                    if !again || waiter.deadline <= Instant::now() {
                        break Err(failure(&error, doubtful));
                    }
                }
            }
            pause.wait().await;
        };
        let _ = waiter.reply.send(answer);
    }
}

enum Stored {
    /// Everyone was answered but these, which are locked.
    Answered(Vec<Work>),
    /// The database refuses the data of something in this batch.
    Refused(Batch),
}

struct Attempt {
    error: Error,
    /// The statement was sent, so it may have taken effect.
    sent: bool,
}

/// What an error of the whole batch calls for.
enum Verdict {
    Again,
    Split,
    Fail,
}

impl Verdict {
    fn of(error: &Error) -> Self {
        match error {
            Error::Unavailable(_) | Error::Timeout { .. } | Error::Serialization(_) | Error::LockTimeout(_) => {
                Self::Again
            }
            Error::Data(_) | Error::Conflict { .. } => Self::Split,
            Error::Corrupt(_) | Error::Driver(_) => Self::Fail,
        }
    }
}

fn note(error: Error) -> Arc<Error> {
    tracing::warn!(cause = &error as &dyn std::error::Error, "a batch of writes failed and is tried again");
    Arc::new(error)
}

/// Grows with every failure in a row.
#[derive(Default)]
struct Pause(Duration);

impl Pause {
    async fn wait(&mut self) {
        self.0 = (self.0 * 2).clamp(FIRST_PAUSE, LAST_PAUSE);
        tokio::time::sleep(self.0.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
    }
}
