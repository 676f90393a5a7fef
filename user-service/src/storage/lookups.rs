//! Merges lookups by id that arrive together into one query. Pure queueing: the query itself is a parameter.
//!
//! A lookup joins a query that has not been sent yet, never one in flight, so its answer is never older than its request.
//! The queue is bounded, and a lookup that does not fit fails at once. A lookup waits no longer than a database call may take;
//! one whose caller has gone is skipped.

use std::{
    collections::HashMap,
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use service_kit::{
    database,
    telemetry::{
        metrics::{Counter, counter, histogram},
        trace,
    },
};
use tokio::{
    sync::{Mutex, mpsc, oneshot},
    time::timeout,
};
use tracing::{Instrument, Span};

use super::Error;
use crate::{
    authorised::Authorised,
    domain::{User, UserId},
};

/// The most ids of one query.
const MAX_BATCH: usize = 1_000;
/// The most lookups that wait for a query.
const MAX_WAITING: usize = 8_192;

type Answer = Result<Option<User>, Error>;

#[derive(Debug)]
struct Lookup {
    user_id: UserId,
    answer: oneshot::Sender<Answer>,
    /// The span of the call that waits, if it is traced.
    span: Span,
}

/// Sends lookups. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Lookups {
    waiting: mpsc::Sender<Lookup>,
    limit: Duration,
    rejected: Counter,
}

/// The lookups that wait. Clones share it: one worker for each query that may run at a time.
#[derive(Debug, Clone)]
pub(crate) struct Queue(Arc<Mutex<mpsc::Receiver<Lookup>>>);

impl Lookups {
    /// Makes both ends. `limit` is the longest time that a lookup waits.
    pub(crate) fn new(limit: Duration) -> (Self, Queue) {
        Self::with_capacity(MAX_WAITING, limit)
    }

    fn with_capacity(capacity: usize, limit: Duration) -> (Self, Queue) {
        let (sender, receiver) = mpsc::channel(capacity);
        let rejected = counter!("parlance_lookups_rejected_total");
        (Self { waiting: sender, limit, rejected }, Queue(Arc::new(Mutex::new(receiver))))
    }

    /// Returns the user with this id, tombstones included.
    pub(crate) async fn find(&self, _: Authorised, user_id: UserId) -> Answer {
        let (sender, answer) = oneshot::channel();
        let lookup = Lookup { user_id, answer: sender, span: trace::current() };
        self.waiting.try_send(lookup).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                self.rejected.increment(1);
                Error::Overloaded
            }
            mpsc::error::TrySendError::Closed(_) => Error::NotReady,
        })?;
        match timeout(self.limit, answer).await {
            Ok(Ok(answer)) => answer,
            // The workers have ended, since the process is killed.
            Ok(Err(_)) => Err(Error::NotReady),
            Err(_) => Err(database::Error::Timeout { limit: self.limit }.into()),
        }
    }
}

impl Queue {
    /// Answers lookups until all senders are gone. `find_all` returns the users with these ids, in any order, each once.
    pub(crate) async fn work<F, Q>(self, find_all: F)
    where
        F: Fn(Vec<UserId>) -> Q,
        Q: Future<Output = Result<Vec<User>, Error>>,
    {
        let (users, seconds) = (histogram!("parlance_lookup_batch_users"), histogram!("parlance_lookup_seconds"));
        let mut taken = Vec::new();
        while self.take(&mut taken).await {
            let span = span(&taken);
            let waiters = by_id(taken.drain(..));
            if waiters.is_empty() {
                continue;
            }
            let began = Instant::now();
            let found = find_all(waiters.keys().cloned().collect()).instrument(span).await;
            users.record(waiters.len() as f64);
            seconds.record(began.elapsed());
            answer(waiters, found);
        }
    }

    /// Takes all that wait, at least one. Returns false when all senders are gone. Only one worker waits here at a time, and
    /// lets the next one in before it sends its query.
    async fn take(&self, taken: &mut Vec<Lookup>) -> bool {
        self.0.lock().await.recv_many(taken, MAX_BATCH).await > 0
    }
}

/// Returns the span of one query, linked to all lookups that wait for it.
fn span(taken: &[Lookup]) -> Span {
    trace::of_all(taken.iter().map(|lookup| &lookup.span), |parent| {
        tracing::info_span!(
            parent: parent,
            "find users",
            otel.kind = "client",
            db.system.name = "postgresql",
            db.operation.name = "SELECT",
            db.operation.batch.size = taken.len(),
        )
    })
}

type Waiters = HashMap<UserId, Vec<oneshot::Sender<Answer>>>;

fn by_id(lookups: impl Iterator<Item = Lookup>) -> Waiters {
    let mut waiters = Waiters::new();
    for lookup in lookups.filter(|lookup| !lookup.answer.is_closed()) {
        waiters.entry(lookup.user_id).or_default().push(lookup.answer);
    }
    waiters
}

fn answer(mut waiters: Waiters, found: Result<Vec<User>, Error>) {
    // Fails for callers that have gone.
    let send = |waiting: Vec<oneshot::Sender<Answer>>, answer: &Answer| {
        for one in waiting {
            drop(one.send(answer.clone()));
        }
    };
    let others = match found {
        Ok(users) => {
            for user in users {
                let waiting = waiters.remove(&user.user_id).unwrap_or_default();
                send(waiting, &Ok(Some(user)));
            }
            Ok(None)
        }
        Err(error) => Err(error),
    };
    for waiting in waiters.into_values() {
        send(waiting, &others);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex as SyncMutex;

    use time::OffsetDateTime;
    use tokio::{join, sync::Notify};

    use super::*;
    use crate::domain::{DisplayName, Etag, Rpc, UserState, Username};

    const LIMIT: Duration = Duration::from_secs(5);
    const BY: Authorised = Authorised::unchecked(Rpc::GetUser);

    fn id(text: &str) -> UserId {
        UserId::parse(text).unwrap()
    }

    fn user(user_id: UserId) -> User {
        User {
            user_id,
            username: Some(Username::parse("someone").unwrap()),
            display_name: DisplayName::default(),
            state: UserState::Active,
            etag: Etag::of_version(1),
            created_at: OffsetDateTime::UNIX_EPOCH,
            updated_at: OffsetDateTime::UNIX_EPOCH,
            deleted_at: None,
            tokens_valid_after: None,
        }
    }

    /// A database that waits for a signal before each answer, and records its queries.
    #[derive(Default)]
    struct Slow {
        queries: SyncMutex<Vec<Vec<UserId>>>,
        began: Notify,
        resume: Notify,
    }

    impl Slow {
        async fn find_all(&self, ids: Vec<UserId>) -> Result<Vec<User>, Error> {
            self.queries.lock().unwrap().push(ids.clone());
            self.began.notify_one();
            self.resume.notified().await;
            Ok(ids.into_iter().filter(|id| id.as_str() != "missing").map(user).collect())
        }
    }

    #[tokio::test]
    async fn lookups_join_the_next_query_and_never_one_in_flight() {
        let (lookups, queue) = Lookups::new(LIMIT);
        let slow = Arc::new(Slow::default());
        let database = Arc::clone(&slow);
        let worker = queue.work(|ids| {
            let database = Arc::clone(&database);
            async move { database.find_all(ids).await }
        });

        let calls = async {
            let first = lookups.find(BY, id("a"));
            let later = async {
                slow.began.notified().await;
                // The first query is in flight: these wait for the next one, together.
                let both = async {
                    join!(lookups.find(BY, id("a")), lookups.find(BY, id("a")), lookups.find(BY, id("missing")))
                };
                let signals = async {
                    slow.resume.notify_one();
                    slow.began.notified().await;
                    slow.resume.notify_one();
                };
                join!(both, signals).0
            };
            let (first, (second, third, missing)) = join!(first, later);
            for found in [first, second, third] {
                assert_eq!(found.unwrap().unwrap().user_id, id("a"));
            }
            assert!(missing.unwrap().is_none());
        };
        tokio::select! { () = worker => panic!("ended early"), () = calls => {} }

        let queries = slow.queries.lock().unwrap();
        assert_eq!(queries.len(), 2);
        assert_eq!((queries[0].len(), queries[1].len()), (1, 2));
    }

    #[tokio::test]
    async fn a_full_queue_fails_at_once() {
        let (lookups, _queue) = Lookups::with_capacity(1, LIMIT);
        let waiting = lookups.find(BY, id("a"));
        tokio::pin!(waiting);
        assert!(futures_util::poll!(&mut waiting).is_pending());
        assert!(matches!(lookups.find(BY, id("b")).await, Err(Error::Overloaded)));
    }

    #[tokio::test]
    async fn callers_that_have_gone_are_skipped() {
        let (lookups, queue) = Lookups::new(LIMIT);
        {
            let gone = lookups.find(BY, id("gone"));
            tokio::pin!(gone);
            assert!(futures_util::poll!(&mut gone).is_pending());
        }
        let worker = queue.work(|ids| async move {
            assert_eq!(ids, [id("here")]);
            Ok(ids.into_iter().map(user).collect())
        });
        tokio::select! {
            () = worker => panic!("ended early"),
            found = lookups.find(BY, id("here")) => assert!(found.unwrap().is_some()),
        }
    }

    #[tokio::test]
    async fn one_failure_answers_all_that_wait_for_it() {
        let (lookups, queue) = Lookups::new(LIMIT);
        let worker = queue.work(|_| async { Err(database::Error::Timeout { limit: LIMIT }.into()) });
        tokio::select! {
            () = worker => panic!("ended early"),
            (a, b) = async { join!(lookups.find(BY, id("a")), lookups.find(BY, id("b"))) } => {
                assert!(matches!(a, Err(Error::Database(_))));
                assert!(matches!(b, Err(Error::Database(_))));
            }
        }
    }

    #[tokio::test]
    async fn no_lookup_waits_longer_than_the_limit() {
        let (lookups, _queue) = Lookups::new(Duration::from_millis(1));
        assert!(matches!(lookups.find(BY, id("a")).await, Err(Error::Database(_))));
    }

    #[tokio::test]
    async fn workers_end_with_the_last_sender() {
        let (lookups, queue) = Lookups::new(LIMIT);
        drop(lookups);
        queue.work(|_| async { Ok(Vec::new()) }).await;
    }
}
