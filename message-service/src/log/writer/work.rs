//! A write in the queue, and the caller that waits for it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use service_kit::{backoff::Backoff, bounded::Full};
use tokio::sync::oneshot;
use tracing::Span;

use super::room::QueuePermit;
use crate::{
    domain::{
        change::{Change, Outcome, SendOutcome},
        ids::{ConversationId, UserId},
        message::NewMessage,
    },
    storage::Error,
};

/// The longest that a write waits, even before a later deadline: while the database is down the caller should get an
/// answer before it gives up.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(5);

/// Returns the pauses between attempts of a write that the database fails.
pub(super) const fn retry_backoff() -> Backoff {
    Backoff::new(Duration::from_millis(10), Duration::from_millis(500))
}

/// The reason why a write has no outcome.
#[derive(Debug, Clone)]
pub(crate) enum WriteError {
    /// The queue is full; nothing was stored.
    QueueFull,
    /// The acting user has too many waiting writes; nothing was stored.
    ShareFull,
    /// The service is shutting down; nothing was stored.
    Draining,
    /// The conversation was locked for as long as the write could wait; nothing was stored.
    Busy,
    /// The database failed and nothing was stored.
    NotStored(Arc<Error>),
    /// The database failed, and the write may or may not be stored.
    OutcomeUnknown(Arc<Error>),
}

impl From<Full> for WriteError {
    fn from(full: Full) -> Self {
        match full {
            Full::All => Self::QueueFull,
            Full::Key => Self::ShareFull,
        }
    }
}

/// A sender in a conversation, whose sends keep their order.
pub(super) type Sender = (ConversationId, UserId);

/// The numbers of the queued writes, in the order of the queue.
#[derive(Debug, Clone, Default)]
pub(super) struct Stamps(Arc<AtomicU64>);

impl Stamps {
    /// Returns the next number and counts on.
    pub(super) fn take(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }

    /// Returns the number of the next write that is queued.
    pub(super) fn next(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A caller that waits for the outcome of its write.
#[derive(Debug)]
pub(super) struct Waiter<R> {
    pub(super) deadline: Instant,
    /// The place in the queue.
    pub(super) stamp: u64,
    pub(super) reply: oneshot::Sender<Result<R, WriteError>>,
    /// The error of an earlier run whose outcome is unknown: the write may be stored.
    pub(super) in_doubt: Option<Arc<Error>>,
    /// The span of the waiting call, if traces are on.
    pub(super) span: Span,
    pub(super) _permit: QueuePermit,
}

/// One write.
#[derive(Debug)]
pub(super) enum Work {
    Send(NewMessage, Waiter<SendOutcome>),
    Change(Change, Waiter<Outcome>),
}

impl Work {
    pub(super) fn conversation_id(&self) -> &ConversationId {
        match self {
            Self::Send(send, _) => &send.conversation_id,
            Self::Change(change, _) => &change.conversation_id,
        }
    }

    /// Returns the sender of a send.
    pub(super) fn sender(&self) -> Option<Sender> {
        match self {
            Self::Send(send, _) => Some(sender_of(send)),
            Self::Change(..) => None,
        }
    }
}

/// Returns the sender of a message.
pub(super) fn sender_of(send: &NewMessage) -> Sender {
    (send.conversation_id.clone(), send.sender_id.clone())
}

impl WriteError {
    /// Returns the reason of a write that ran out of time after this error. A lock that was not granted for so long is no
    /// lost race.
    pub(super) fn not_stored(error: Arc<Error>) -> Self {
        match *error {
            Error::LockTimeout(_) => Self::Busy,
            _ => Self::NotStored(error),
        }
    }

    /// Returns true if the caller should repeat the write.
    pub(super) fn is_retryable(&self) -> bool {
        match self {
            Self::NotStored(error) => error.is_outage() || error.is_lost_race(),
            Self::QueueFull | Self::ShareFull | Self::Draining | Self::Busy | Self::OutcomeUnknown(_) => true,
        }
    }
}

impl<R> Waiter<R> {
    /// Answers the caller, if it still waits. Every failure of a write in doubt is an unknown outcome, whichever error
    /// came last.
    pub(super) fn answer(self, answer: Result<R, WriteError>) {
        let answer = match (answer, self.in_doubt) {
            (Err(_), Some(error)) => Err(WriteError::OutcomeUnknown(error)),
            (answer, _) => answer,
        };
        let _ = self.reply.send(answer);
    }
}

/// Writes for unit tests.
#[cfg(test)]
pub(super) mod samples {
    use std::collections::BTreeMap;

    use super::{super::room::Room, *};
    use crate::{
        domain::{
            change::{ChangeKind, conversation::UpdateConversation},
            hash,
        },
        log::clock::Clock,
    };

    /// The answer of a write.
    pub(crate) type Answer<R> = oneshot::Receiver<Result<R, WriteError>>;

    pub(crate) fn now() -> Instant {
        Clock::manual().now()
    }

    pub(crate) fn waiter<R>(deadline: Instant) -> (Waiter<R>, Answer<R>) {
        let (reply, answer) = oneshot::channel();
        let permit = Room::new().take(&"ann".into(), 0).unwrap();
        (Waiter { deadline, stamp: 0, reply, in_doubt: None, span: Span::none(), _permit: permit }, answer)
    }

    /// A message of `ann` in conversation `c` with this request id and text.
    pub(crate) fn message(request_id: &str, text: &str) -> NewMessage {
        NewMessage {
            conversation_id: "c".into(),
            sender_id: "ann".into(),
            request_id: request_id.to_owned(),
            request_hash: hash::of_message(text, &BTreeMap::new(), None),
            text: text.to_owned(),
            attributes: BTreeMap::new(),
            reply_to_sequence: None,
        }
    }

    /// A change of the title of conversation `c`.
    pub(crate) fn change(title: &str) -> Change {
        let update = UpdateConversation { title: Some(title.to_owned()), ..UpdateConversation::default() };
        let kind = ChangeKind::UpdateConversation(update);
        Change { conversation_id: "c".into(), actor_id: "ann".into(), kind }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_waited_for_a_lock_until_its_deadline_is_busy() {
        let not_stored = |error| WriteError::not_stored(Arc::new(error));
        assert!(matches!(not_stored(Error::LockTimeout(sqlx::Error::WorkerCrashed)), WriteError::Busy));
        assert!(matches!(not_stored(Error::Unavailable(sqlx::Error::WorkerCrashed)), WriteError::NotStored(_)));
    }
}
