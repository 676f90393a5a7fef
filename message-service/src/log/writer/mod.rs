//! Group commit: every write that takes a sequence goes through the writer of its conversation.
//!
//! A few writers, chosen by the conversation's hash, each a separate task and connection: a caller that disconnects leaves
//! no half of a write. The queue is bounded by its bytes, for the whole process and for each user; when it is
//! full, writes are refused at once.

mod batch;
mod create;
mod given_up;
mod halves;
mod lane;
mod metrics;
#[cfg(test)]
mod order_tests;
mod queue;
mod read_marks;
mod room;
mod shard;
mod storer;
mod verdict;
mod work;

use std::{
    future::Future,
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Instant,
};

use service_kit::{lifecycle::Lifecycle, telemetry::trace};
use tokio::sync::{mpsc, oneshot};

use self::{
    read_marks::ReadMarks,
    room::Room,
    work::{MAX_WAIT, Stamps, Waiter, Work},
};
use super::live::LiveLogs;
use crate::{
    actor::Actor,
    bus::Exchange,
    domain::{
        change::{Change, ChangeKind, Outcome, SendOutcome},
        conversation::NewConversation,
        ids::ConversationId,
        message::NewMessage,
        permission::Verb,
        rpc::Rpc,
        sequence::Position,
    },
    storage::{
        Error, Store,
        read_marks::{Marked, ReadMark},
    },
};

pub(crate) use self::{room::QueuePermit, work::WriteError};

/// The writers of this process. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Writers {
    shards: Arc<[mpsc::UnboundedSender<Work>]>,
    hasher: RandomState,
    stamps: Stamps,
    room: Room,
    read_marks: ReadMarks,
    store: Store,
    live: LiveLogs,
    exchange: Exchange,
    lifecycle: Lifecycle,
}

impl Writers {
    /// Starts this many writers, each with separate connections. They end on closing, once all waiting writes are
    /// answered.
    pub(crate) fn start(
        count: usize,
        store: &Store,
        live: &LiveLogs,
        exchange: &Exchange,
        lifecycle: &Lifecycle,
    ) -> Self {
        // The channels are unbounded: the permits bound the writes in them.
        let stamps = Stamps::default();
        let shard = |_| shard::start(store, live, exchange, &stamps, lifecycle);
        let room = Room::new();
        room.watch(lifecycle);
        Self {
            shards: (0..count).map(shard).collect(),
            hasher: RandomState::new(),
            stamps,
            room,
            read_marks: ReadMarks::start(store, lifecycle),
            store: store.clone(),
            live: live.clone(),
            exchange: exchange.clone(),
            lifecycle: lifecycle.clone(),
        }
    }

    /// Reserves the queue's bytes for a message until it is stored.
    ///
    /// # Errors
    /// [`WriteError::QueueFull`], [`WriteError::ShareFull`].
    pub(crate) fn reserve(&self, send: &NewMessage) -> Result<QueuePermit, WriteError> {
        Ok(self.room.take(&send.sender_id, send.bytes())?)
    }

    /// Stores a message, if its sender may. Harmless to repeat with the same `request_id`. The message is queued when this
    /// returns: messages of one conversation are stored in the order of these calls, whenever each future is polled.
    ///
    /// # Errors
    /// The write has no outcome.
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
    /// The write has no outcome.
    pub(crate) async fn change(
        &self,
        actor: &Actor,
        conversation_id: ConversationId,
        kind: ChangeKind,
    ) -> Result<Outcome, WriteError> {
        debug_assert!(kind.belongs_to(actor.rpc()));
        let change = Change { conversation_id, actor_id: actor.user_id().clone(), kind };
        let permit = self.room.take(&change.actor_id, change.bytes())?;
        let conversation_id = change.conversation_id.clone();
        answered(self.queue(&conversation_id, permit, actor.deadline(), |waiter| Work::Change(change, waiter))).await
    }

    /// Moves the actor's read mark; returns `None` if the actor is no member. Harmless to repeat, and to drop. It takes no
    /// sequence, so it needs no writer: marks of all conversations are moved together.
    ///
    /// # Errors
    /// The mark may have moved or not.
    pub(crate) async fn mark_read(
        &self,
        actor: &Actor,
        conversation_id: &ConversationId,
        up_to: Position,
    ) -> Result<Option<Marked>, WriteError> {
        debug_assert_eq!(actor.rpc(), Rpc::MarkRead);
        let permit = self.room.take(actor.user_id(), conversation_id.len())?;
        let mark = ReadMark::of(actor, conversation_id, up_to);
        self.read_marks.mark(mark, permit, self.bounded(actor.deadline())).await
    }

    /// Creates a conversation. Harmless to repeat with the same `request_id`. It needs no writer, since a conversation that
    /// does not exist has neither writes nor subscribers; but it continues when its caller disconnects.
    ///
    /// # Errors
    /// The write has no outcome.
    pub(crate) async fn create(
        &self,
        actor: &Actor,
        new: NewConversation,
    ) -> Result<(Outcome, ConversationId), WriteError> {
        if self.lifecycle.closing().is_cancelled() {
            return Err(WriteError::Draining);
        }
        let bytes = new.title.len() + new.member_ids.iter().map(|id| id.len() + 16).sum::<usize>();
        let permit = self.room.take(&new.creator_id, bytes)?;
        debug_assert_eq!(new.creator_id, *actor.user_id());
        let deadline = self.bounded(actor.deadline());
        let (store, live, exchange) = (self.store.clone(), self.live.clone(), self.exchange.clone());
        let registration = self.exchange.register_writer();
        let job = self.lifecycle.spawn_job("create conversation", async move {
            let created = create::create(&store, &new, deadline, live.clock()).await;
            if let Ok((Outcome::Done, conversation_id)) = &created {
                for user_id in std::iter::once(&new.creator_id).chain(&new.member_ids) {
                    live.notify_joined(user_id, std::slice::from_ref(conversation_id));
                }
                exchange.announce_commit();
            }
            drop((permit, registration));
            created
        });
        job.await.unwrap_or_else(|_| Err(WriteError::OutcomeUnknown(Arc::new(killed()))))
    }

    /// Queues a write; returns the receiver of its answer.
    fn queue<R>(
        &self,
        conversation_id: &ConversationId,
        permit: QueuePermit,
        deadline: Instant,
        work: impl FnOnce(Waiter<R>) -> Work,
    ) -> Result<oneshot::Receiver<Result<R, WriteError>>, WriteError> {
        let (reply, answer) = oneshot::channel();
        let deadline = self.bounded(deadline);
        let stamp = self.stamps.take();
        let waiter = Waiter { deadline, stamp, reply, in_doubt: None, span: trace::current(), _permit: permit };
        let shard = self.hasher.hash_one(conversation_id) as usize % self.shards.len();
        self.shards[shard].send(work(waiter)).map_err(|_| WriteError::Draining)?;
        Ok(answer)
    }

    fn bounded(&self, deadline: Instant) -> Instant {
        deadline.min(self.live.clock().now() + MAX_WAIT)
    }
}

async fn answered<R>(queued: Result<oneshot::Receiver<Result<R, WriteError>>, WriteError>) -> Result<R, WriteError> {
    // A killed writer answers no one: it may have been in the middle of this write.
    queued?.await.unwrap_or_else(|_| Err(WriteError::OutcomeUnknown(Arc::new(killed()))))
}

fn killed() -> Error {
    Error::Timeout { limit: MAX_WAIT }
}
