//! Read marks: those that wait are moved by one statement in one transaction, and while that runs the next ones gather. Of
//! several marks of a member the latest wins.
//!
//! A member that another transaction holds is left out, so that it delays no others; its mark is moved alone.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
    time::Instant,
};

use service_kit::{causes::causes, lifecycle::Lifecycle};
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    time::timeout_at,
};

use super::{
    queue,
    room::QueuePermit,
    work::{MAX_WAIT, WriteError},
};
use crate::storage::{
    Error, Store,
    read_marks::{Locks, MarkOutcome, Marked, ReadMark},
};

/// The most waiting marks that are taken together.
const MAX_TAKEN: usize = 512;

/// The most marks that are moved alone at a time, each over its own connection.
const MAX_ALONE: usize = 2;

/// The tries to move a mark alone: while other transactions move it, too, each sees what the one before met.
const TRIES: usize = 3;

type Answer = Result<MarkOutcome, WriteError>;

/// A mark in the queue, and the caller that waits for it.
#[derive(Debug)]
struct WaitingMark {
    mark: ReadMark,
    waiter: Waiter,
}

#[derive(Debug)]
struct Waiter {
    reply: oneshot::Sender<Answer>,
    _permit: Arc<QueuePermit>,
}

/// The read marks that wait. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct ReadMarks {
    // Unbounded: the permits bound the marks in it.
    queue: mpsc::UnboundedSender<WaitingMark>,
    store: Store,
    alone: Arc<Semaphore>,
}

impl ReadMarks {
    /// Starts to move marks. Ends on closing, once all that wait are answered.
    pub(super) fn start(store: &Store, lifecycle: &Lifecycle) -> Self {
        let (queue, waiting) = mpsc::unbounded_channel();
        lifecycle.spawn("read marks", run(store.clone(), waiting, lifecycle.clone()));
        Self { queue, store: store.clone(), alone: Arc::new(Semaphore::new(MAX_ALONE)) }
    }

    /// Moves a mark; returns `None` if the user is no member. Harmless to repeat, and to drop.
    pub(super) async fn mark(
        &self,
        mark: ReadMark,
        permit: QueuePermit,
        deadline: Instant,
    ) -> Result<Option<Marked>, WriteError> {
        let (reply, answer) = oneshot::channel();
        let permit = Arc::new(permit);
        let waiter = Waiter { reply, _permit: permit.clone() };
        self.queue.send(WaitingMark { mark: mark.clone(), waiter }).map_err(|_| WriteError::Draining)?;
        // Marks are harmless to repeat, whether they have moved or not.
        let unanswered = || WriteError::NotStored(Arc::new(Error::Timeout { limit: MAX_WAIT }));
        let Ok(Ok(answer)) = timeout_at(deadline.into(), answer).await else { return Err(unanswered()) };
        match answer? {
            MarkOutcome::Marked(marked) => Ok(Some(marked)),
            MarkOutcome::NotAMember => Ok(None),
            MarkOutcome::Locked => {
                let alone = timeout_at(deadline.into(), self.mark_alone(mark)).await;
                drop(permit);
                alone.unwrap_or(Err(WriteError::Busy))
            }
        }
    }

    /// Moves a mark, and waits for whatever holds its member.
    async fn mark_alone(&self, mark: ReadMark) -> Result<Option<Marked>, WriteError> {
        let _permit = self.alone.acquire().await;
        for _ in 0..TRIES {
            let marked = self.store.mark_read(std::slice::from_ref(&mark), Locks::Wait).await;
            let outcome = marked.and_then(|mut outcomes| outcomes.pop().unwrap_or(Ok(MarkOutcome::NotAMember)));
            match outcome.map_err(|error| WriteError::not_stored(Arc::new(error)))? {
                MarkOutcome::Marked(marked) => return Ok(Some(marked)),
                MarkOutcome::NotAMember => return Ok(None),
                MarkOutcome::Locked => {}
            }
        }
        Err(WriteError::Busy)
    }
}

async fn run(store: Store, mut waiting: mpsc::UnboundedReceiver<WaitingMark>, lifecycle: Lifecycle) {
    let killed = lifecycle.killed().clone();
    let work = async {
        loop {
            let taken = queue::take(&mut waiting, MAX_TAKEN, &lifecycle).await;
            if taken.is_empty() {
                break;
            }
            move_together(&store, taken).await;
        }
    };
    killed.run_until_cancelled(Box::pin(work)).await;
}

async fn move_together(store: &Store, taken: Vec<WaitingMark>) {
    let (marks, waiters) = latest(taken);
    if marks.is_empty() {
        return;
    }
    match store.mark_read(&marks, Locks::Skip).await {
        Ok(outcomes) => {
            for (outcome, waiters) in outcomes.into_iter().zip(waiters) {
                answer(waiters, outcome.map_err(|error| WriteError::NotStored(Arc::new(error))));
            }
        }
        // It may concern one of them only: each is moved alone, so that the others do not fail with it.
        Err(error) if !error.is_outage() && marks.len() > 1 => {
            tracing::warn!(cause = causes(&error), "read marks failed together and are moved alone");
            answer(waiters.into_iter().flatten(), Ok(MarkOutcome::Locked));
        }
        Err(error) => {
            answer(waiters.into_iter().flatten(), Err(WriteError::NotStored(Arc::new(error))));
        }
    }
}

/// Returns the latest mark of each member, and those who wait for it. Leaves out callers that have given up.
fn latest(taken: Vec<WaitingMark>) -> (Vec<ReadMark>, Vec<Vec<Waiter>>) {
    let (mut marks, mut waiters) = (Vec::<ReadMark>::new(), Vec::<Vec<Waiter>>::new());
    let mut known = HashMap::new();
    for WaitingMark { mark, waiter } in taken.into_iter().filter(|waiting| !waiting.waiter.reply.is_closed()) {
        match known.entry((mark.conversation_id.clone(), mark.user_id.clone())) {
            Entry::Vacant(vacant) => {
                vacant.insert(marks.len());
                marks.push(mark);
                waiters.push(vec![waiter]);
            }
            Entry::Occupied(same) => {
                let at = *same.get();
                marks[at].up_to = marks[at].up_to.max(mark.up_to);
                waiters[at].push(waiter);
            }
        }
    }
    (marks, waiters)
}

/// Answers all waiters of a mark. It has moved once: one of them announces that.
fn answer(waiters: impl IntoIterator<Item = Waiter>, mut answer: Answer) {
    for waiter in waiters {
        if waiter.reply.send(answer.clone()).is_ok()
            && let Ok(MarkOutcome::Marked(marked)) = &mut answer
        {
            marked.has_moved = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{domain::sequence::Position, log::writer::room::Room};

    fn waiting(user_id: &str, up_to: i64) -> (WaitingMark, oneshot::Receiver<Answer>) {
        let (reply, answer) = oneshot::channel();
        let permit = Arc::new(Room::new().take(&user_id.into(), 0).unwrap());
        let up_to = Position::new(up_to).unwrap();
        let mark = ReadMark { conversation_id: "c".into(), user_id: user_id.into(), up_to };
        (WaitingMark { mark, waiter: Waiter { reply, _permit: permit } }, answer)
    }

    #[test]
    fn of_the_marks_of_a_member_the_latest_wins() {
        let (taken, mut answers): (Vec<_>, Vec<_>) = [("ann", 2), ("ben", 7), ("ann", 5), ("ann", 3), ("cat", 9)]
            .map(|(id, up_to)| waiting(id, up_to))
            .into_iter()
            .unzip();
        // Its caller has given up.
        answers.pop();
        let (marks, waiters) = latest(taken);
        let seen: Vec<_> = marks.iter().map(|mark| (&*mark.user_id, mark.up_to.get())).collect();
        assert_eq!(seen, [("ann", 5), ("ben", 7)]);
        assert_eq!(waiters.iter().map(Vec::len).collect::<Vec<_>>(), [3, 1]);
        for waiters in waiters {
            answer(waiters, Ok(MarkOutcome::NotAMember));
        }
        assert!(answers.into_iter().all(|mut answer| matches!(answer.try_recv(), Ok(Ok(MarkOutcome::NotAMember)))));
    }
}
