//! Lookups by id that arrive together become one query. Pure queueing: the query itself is a parameter.
//!
//! A lookup joins a query that was not sent yet, never one in flight, so its answer is never older than its question.
//! The queue is bounded and full is said at once; each waiter waits no longer than a database call may take; one that
//! hangs up is skipped and harms nobody.

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
use crate::domain::{User, UserId};

/// The most ids that one query asks for.
const MAX_BATCH: usize = 1_000;
/// The most lookups that wait to be taken.
const MAX_WAITING: usize = 8_192;

type Answer = Result<Option<User>, Error>;

#[derive(Debug)]
struct Lookup {
    user_id: UserId,
    answer: oneshot::Sender<Answer>,
    /// Of the call that waits, where traces are on.
    span: Span,
}

/// Asks. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Lookups {
    waiting: mpsc::Sender<Lookup>,
    limit: Duration,
    rejected: Counter,
}

/// What was asked and not taken yet. Clones share it: one worker for each query that may run at a time.
#[derive(Debug, Clone)]
pub(crate) struct Queue(Arc<Mutex<mpsc::Receiver<Lookup>>>);

impl Lookups {
    /// Makes both ends. `limit` is the longest that one lookup waits for its answer.
    pub(crate) fn new(limit: Duration) -> (Self, Queue) {
        Self::with_room_for(MAX_WAITING, limit)
    }

    fn with_room_for(most: usize, limit: Duration) -> (Self, Queue) {
        let (sender, receiver) = mpsc::channel(most);
        let rejected = counter!("parlance_lookups_rejected_total");
        (Self { waiting: sender, limit, rejected }, Queue(Arc::new(Mutex::new(receiver))))
    }

    /// Finds the user with this id, tombstones included.
    pub(crate) async fn find(&self, user_id: UserId) -> Answer {
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
            // The workers were dropped with the process's last breath.
            Ok(Err(_)) => Err(Error::NotReady),
            Err(_) => Err(database::Error::Timeout { limit: self.limit }.into()),
        }
    }
}

impl Queue {
    /// Answers lookups until nobody can ask any more. `find_all` gives the users with these ids, in any order, each once.
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

    /// Takes whatever is waiting, at least one; false when nobody can ask any more. Only one worker waits here at a time,
    /// and it lets the next one in before it sends its query.
    async fn take(&self, taken: &mut Vec<Lookup>) -> bool {
        self.0.lock().await.recv_many(taken, MAX_BATCH).await > 0
    }
}

/// Of one query, for all who wait for it.
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
    // Who hung up meanwhile does not hear it; that is all.
    let tell = |waiting: Vec<oneshot::Sender<Answer>>, answer: &Answer| {
        for one in waiting {
            drop(one.send(answer.clone()));
        }
    };
    let others = match found {
        Ok(users) => {
            for user in users {
                let waiting = waiters.remove(&user.user_id).unwrap_or_default();
                tell(waiting, &Ok(Some(user)));
            }
            Ok(None)
        }
        Err(error) => Err(error),
    };
    for waiting in waiters.into_values() {
        tell(waiting, &others);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex as SyncMutex;

    use time::OffsetDateTime;
    use tokio::{join, sync::Notify};

    use super::*;
    use crate::domain::{DisplayName, Etag, State, Username};

    const LIMIT: Duration = Duration::from_secs(5);

    fn id(text: &str) -> UserId {
        UserId::parse(text).unwrap()
    }

    fn user(user_id: UserId) -> User {
        User {
            user_id,
            username: Some(Username::parse("somebody").unwrap()),
            display_name: DisplayName::default(),
            state: State::Active,
            etag: Etag::of_version(1),
            created_at: OffsetDateTime::UNIX_EPOCH,
            updated_at: OffsetDateTime::UNIX_EPOCH,
            deleted_at: None,
        }
    }

    /// A database that waits for a sign before each answer, and notes what it was asked.
    #[derive(Default)]
    struct Slow {
        asked: SyncMutex<Vec<Vec<UserId>>>,
        began: Notify,
        go_on: Notify,
    }

    impl Slow {
        async fn find_all(&self, ids: Vec<UserId>) -> Result<Vec<User>, Error> {
            self.asked.lock().unwrap().push(ids.clone());
            self.began.notify_one();
            self.go_on.notified().await;
            Ok(ids.into_iter().filter(|id| id.as_str() != "nobody").map(user).collect())
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

        let asking = async {
            let first = lookups.find(id("a"));
            let later = async {
                slow.began.notified().await;
                // The first query is in flight: these wait for the next one, together.
                let both = async { join!(lookups.find(id("a")), lookups.find(id("a")), lookups.find(id("nobody"))) };
                let signs = async {
                    slow.go_on.notify_one();
                    slow.began.notified().await;
                    slow.go_on.notify_one();
                };
                join!(both, signs).0
            };
            let (first, (second, third, nobody)) = join!(first, later);
            for found in [first, second, third] {
                assert_eq!(found.unwrap().unwrap().user_id, id("a"));
            }
            assert!(nobody.unwrap().is_none());
        };
        tokio::select! { () = worker => panic!("ended early"), () = asking => {} }

        let asked = slow.asked.lock().unwrap();
        assert_eq!(asked.len(), 2);
        assert_eq!((asked[0].len(), asked[1].len()), (1, 2));
    }

    #[tokio::test]
    async fn a_full_queue_says_so_at_once() {
        let (lookups, _queue) = Lookups::with_room_for(1, LIMIT);
        let waiting = lookups.find(id("a"));
        tokio::pin!(waiting);
        assert!(futures_util::poll!(&mut waiting).is_pending());
        assert!(matches!(lookups.find(id("b")).await, Err(Error::Overloaded)));
    }

    #[tokio::test]
    async fn who_hung_up_is_not_asked_for() {
        let (lookups, queue) = Lookups::new(LIMIT);
        {
            let gone = lookups.find(id("gone"));
            tokio::pin!(gone);
            assert!(futures_util::poll!(&mut gone).is_pending());
        }
        let worker = queue.work(|ids| async move {
            assert_eq!(ids, [id("here")]);
            Ok(ids.into_iter().map(user).collect())
        });
        tokio::select! {
            () = worker => panic!("ended early"),
            found = lookups.find(id("here")) => assert!(found.unwrap().is_some()),
        }
    }

    #[tokio::test]
    async fn one_failure_answers_all_who_wait_for_it() {
        let (lookups, queue) = Lookups::new(LIMIT);
        let worker = queue.work(|_| async { Err(database::Error::Timeout { limit: LIMIT }.into()) });
        tokio::select! {
            () = worker => panic!("ended early"),
            (a, b) = async { join!(lookups.find(id("a")), lookups.find(id("b"))) } => {
                assert!(matches!(a, Err(Error::Database(_))));
                assert!(matches!(b, Err(Error::Database(_))));
            }
        }
    }

    #[tokio::test]
    async fn nobody_waits_longer_than_the_limit() {
        let (lookups, _queue) = Lookups::new(Duration::from_millis(1));
        assert!(matches!(lookups.find(id("a")).await, Err(Error::Database(_))));
    }

    #[tokio::test]
    async fn workers_end_when_nobody_can_ask() {
        let (lookups, queue) = Lookups::new(LIMIT);
        drop(lookups);
        queue.work(|_| async { Ok(Vec::new()) }).await;
    }
}
