//! The way to write: whatever takes a sequence goes through the writer of its conversation.
//!
//! A few writers, chosen by the conversation's hash, each a task of its own with a connection of its own: a caller that
//! hangs up leaves no half of a write. What waits is bounded by its bytes for the whole process; when that is full the
//! answer comes at once.

use std::{
    future::Future,
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::{Duration, Instant},
};

use service_kit::{
    database::Settings,
    lifecycle::Lifecycle,
    telemetry::{
        metrics::{self, Counter, counter, gauge},
        trace,
    },
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tracing::Span;

use super::{create, live::LiveLogs, shard};
use crate::{
    actor::Actor,
    bus::Exchange,
    domain::{
        change::{Change, ChangeKind, Outcome, SendOutcome},
        conversation::NewConversation,
        ids::ConversationId,
        message::NewMessage,
        permission::Verb,
    },
    storage::{Error, Store},
};

/// All writes that wait, in bytes, overhead included.
const MAX_WAITING_BYTES: usize = 32 * 1024 * 1024;

/// What a waiting write takes beside its text.
const OVERHEAD_BYTES: usize = 512;

/// A write waits no longer, whatever its caller's deadline: while the database is away the answer should come while the
/// caller still listens.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// Why a write was not answered with an outcome.
#[derive(Debug, Clone)]
pub(crate) enum WriteError {
    /// Too much is waiting; nothing was stored.
    QueueFull,
    /// The service is shutting down; nothing was stored.
    Draining,
    /// Somebody held the conversation locked for as long as the write could wait; nothing was stored.
    Busy,
    /// The database failed and nothing was stored.
    NotStored(Arc<Error>),
    /// The database failed and nobody knows whether the write is stored.
    OutcomeUnknown(Arc<Error>),
}

/// A caller that waits for what becomes of its write.
#[derive(Debug)]
pub(super) struct Waiter<R> {
    pub(super) deadline: Instant,
    pub(super) reply: oneshot::Sender<Result<R, WriteError>>,
    /// Why an earlier try of this write ended in doubt, if one did: it may be stored.
    pub(super) doubt: Option<Arc<Error>>,
    /// Of the call that waits, where traces are on.
    pub(super) span: Span,
    /// Its part of what may wait; given back when the write is answered.
    pub(super) _room: OwnedSemaphorePermit,
}

/// One write on its way.
#[derive(Debug)]
pub(super) enum Work {
    Send(NewMessage, Waiter<SendOutcome>),
    Change(Change, Waiter<Outcome>),
}

/// A part of what may wait, given back when this is dropped or the write is answered.
#[derive(Debug)]
pub(crate) struct QueuePermit(OwnedSemaphorePermit);

/// The writers of this process. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Writers {
    shards: Arc<[mpsc::UnboundedSender<Work>]>,
    hasher: RandomState,
    room: Arc<Semaphore>,
    rejected: Counter,
    store: Store,
    live: LiveLogs,
    exchange: Exchange,
    lifecycle: Lifecycle,
}

impl Writers {
    /// Starts this many writers, each with connections of its own, made by `settings`. They end on closing, once everything
    /// that waits is answered.
    pub(crate) fn start(
        count: usize,
        settings: &Settings,
        store: &Store,
        live: &LiveLogs,
        exchange: &Exchange,
        lifecycle: &Lifecycle,
    ) -> Self {
        // Unbounded channels, since the room is what bounds them.
        let shard = |_| shard::start(settings, live, exchange, lifecycle);
        let room = Arc::new(Semaphore::new(MAX_WAITING_BYTES));
        watch(&room, lifecycle);
        Self {
            shards: (0..count).map(shard).collect(),
            hasher: RandomState::new(),
            room,
            rejected: counter!("parlance_writer_rejected_total"),
            store: store.clone(),
            live: live.clone(),
            exchange: exchange.clone(),
            lifecycle: lifecycle.clone(),
        }
    }

    /// Keeps room for a message until it is stored.
    ///
    /// # Errors
    /// [`WriteError::QueueFull`].
    pub(crate) fn reserve(&self, send: &NewMessage) -> Result<QueuePermit, WriteError> {
        self.take_room(send.bytes()).map(QueuePermit)
    }

    /// Stores a message, if its sender may. Harmless to repeat with the same `request_id`. It has its place when this returns:
    /// those of one conversation are stored in the order of these calls, whenever each is waited for.
    ///
    /// # Errors
    /// Anything but an outcome of the database.
    pub(crate) fn send(
        &self,
        actor: &Actor,
        new: NewMessage,
        permit: QueuePermit,
    ) -> impl Future<Output = Result<SendOutcome, WriteError>> + Send + use<> {
        debug_assert!(new.sender_id == *actor.user_id() && actor.rpc().demands(Verb::SendMessage));
        let conversation_id = new.conversation_id.clone();
        answered(self.queue(&conversation_id, permit, actor.deadline(), |waiter| Work::Send(new, waiter)))
    }

    /// Applies a change, if its actor may. Harmless to repeat.
    ///
    /// # Errors
    /// Anything but an outcome of the database.
    pub(crate) async fn change(
        &self,
        actor: &Actor,
        conversation_id: ConversationId,
        kind: ChangeKind,
    ) -> Result<Outcome, WriteError> {
        debug_assert!(kind.verbs().iter().any(|verb| actor.rpc().demands(*verb)), "{:?}", actor.rpc());
        let change = Change { conversation_id, actor_id: actor.user_id().clone(), kind };
        let room = QueuePermit(self.take_room(change.bytes())?);
        let conversation_id = change.conversation_id.clone();
        answered(self.queue(&conversation_id, room, actor.deadline(), |waiter| Work::Change(change, waiter))).await
    }

    /// Makes a conversation. Harmless to repeat with the same `request_id`. It needs no writer, since nobody can write to or
    /// follow what is not there yet; but it goes on when its caller hangs up.
    ///
    /// # Errors
    /// Anything but an outcome of the database.
    pub(crate) async fn create(
        &self,
        actor: &Actor,
        new: NewConversation,
    ) -> Result<(Outcome, ConversationId), WriteError> {
        if self.lifecycle.closing().is_cancelled() {
            return Err(WriteError::Draining);
        }
        let bytes = new.title.len() + new.member_ids.iter().map(|id| id.len() + 16).sum::<usize>();
        let room = self.take_room(bytes)?;
        debug_assert_eq!(new.creator_id, *actor.user_id());
        let deadline = actor.deadline().min(Instant::now() + MAX_WAIT);
        let (store, live, exchange) = (self.store.clone(), self.live.clone(), self.exchange.clone());
        let job = self.lifecycle.spawn_job("create conversation", async move {
            let created = create::create(&store, &new, deadline).await;
            if let Ok((Outcome::Done, conversation_id)) = &created {
                for user_id in std::iter::once(&new.creator_id).chain(&new.member_ids) {
                    live.joined(user_id, std::slice::from_ref(conversation_id));
                }
                exchange.announce_commit();
            }
            drop(room);
            created
        });
        job.await.unwrap_or_else(|_| Err(WriteError::OutcomeUnknown(Arc::new(killed()))))
    }

    fn take_room(&self, bytes: usize) -> Result<OwnedSemaphorePermit, WriteError> {
        let bytes = u32::try_from(bytes + OVERHEAD_BYTES).map_err(|_| WriteError::QueueFull)?;
        self.room.clone().try_acquire_many_owned(bytes).map_err(|_| {
            self.rejected.increment(1);
            WriteError::QueueFull
        })
    }

    /// Gives a write its place; gives what will tell what became of it.
    fn queue<R>(
        &self,
        conversation_id: &ConversationId,
        room: QueuePermit,
        deadline: Instant,
        work: impl FnOnce(Waiter<R>) -> Work,
    ) -> Result<oneshot::Receiver<Result<R, WriteError>>, WriteError> {
        let (reply, answer) = oneshot::channel();
        let deadline = deadline.min(Instant::now() + MAX_WAIT);
        let shard = self.hasher.hash_one(conversation_id) as usize % self.shards.len();
        self.shards[shard]
            .send(work(Waiter { deadline, reply, doubt: None, span: trace::current(), _room: room.0 }))
            .map_err(|_| WriteError::Draining)?;
        Ok(answer)
    }
}

/// Counts what waits.
fn watch(room: &Arc<Semaphore>, lifecycle: &Lifecycle) {
    gauge!("parlance_writer_waiting_bytes_max").set(MAX_WAITING_BYTES as f64);
    let (room, waiting) = (room.clone(), gauge!("parlance_writer_waiting_bytes"));
    metrics::watch(lifecycle, move || waiting.set((MAX_WAITING_BYTES - room.available_permits()) as f64));
}

async fn answered<R>(queued: Result<oneshot::Receiver<Result<R, WriteError>>, WriteError>) -> Result<R, WriteError> {
    // A writer that was killed answers nobody: it may have been in the middle of this write.
    queued?.await.unwrap_or_else(|_| Err(WriteError::OutcomeUnknown(Arc::new(killed()))))
}

fn killed() -> Error {
    Error::Timeout { limit: MAX_WAIT }
}
