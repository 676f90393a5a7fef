//! The feed of user changes: one task per process polls the outbox and publishes to all watchers.
//!
//! It polls only while there are watchers. A watcher never misses a change without being notified: one that may have missed
//! some, because it was slow or because the outbox could not be polled for too long, gets [`Change::Ready`] again. No queue
//! grows: all watchers share one ring.

use std::{sync::Arc, time::Duration};

use service_kit::{
    backoff::jittered,
    causes::causes,
    database::outbox::Position,
    lifecycle::Lifecycle,
    telemetry::metrics::{self, Counter, counter, gauge},
};
use tokio::{
    sync::{
        Notify,
        broadcast::{self, error::RecvError},
        watch,
    },
    time::{Instant, sleep},
};

use crate::{
    authorised::Authorised,
    domain::User,
    storage::{ChangedUsers, Error, Store},
};

/// The pause between polls.
const POLL_EVERY: Duration = Duration::from_millis(100);
/// The pause after a poll that failed.
const RETRY_AFTER: Duration = Duration::from_millis(250);
/// The age of the last poll beyond which the feed cannot claim that nothing has changed.
const MAX_AGE: Duration = Duration::from_secs(2);
/// The number of changes that a watcher may be behind before it has to start over.
const RING: usize = 4_096;

/// An item of the feed.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    /// All changes follow from here on; what a watcher knew before may be out of date.
    Ready,
    /// The user as it is after the change.
    Changed(Arc<User>),
}

/// The feed. Cheap to clone; clones share everything.
#[derive(Debug, Clone)]
pub(crate) struct Changes {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    ring: broadcast::Sender<Change>,
    /// When the last poll that succeeded began. Set after all that it read is published.
    polled_at: watch::Sender<Option<Instant>>,
    /// Notified when a watcher is added.
    wanted: Notify,
}

/// A receiver of the feed. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Watcher {
    ring: broadcast::Receiver<Change>,
    polled_at: watch::Receiver<Option<Instant>>,
    /// It has received [`Change::Ready`].
    is_ready: bool,
}

#[derive(Debug)]
struct FeedMetrics {
    failures: Counter,
}

impl FeedMetrics {
    /// Also counts watchers until the lifecycle is closing.
    fn new(shared: &Arc<Shared>, lifecycle: &Lifecycle) -> Self {
        let (shared, watchers) = (shared.clone(), gauge!("parlance_watchers"));
        metrics::watch(lifecycle, move || watchers.set(shared.ring.receiver_count() as f64));
        let failures = counter!("parlance_changes_failures_total");
        failures.increment(0);
        Self { failures }
    }
}

impl Changes {
    /// Creates a feed without watchers.
    pub(crate) fn new() -> Self {
        Self::with_capacity(RING)
    }

    fn with_capacity(capacity: usize) -> Self {
        let (ring, polled_at) = (broadcast::Sender::new(capacity), watch::Sender::new(None));
        Self { shared: Arc::new(Shared { ring, polled_at, wanted: Notify::new() }) }
    }

    /// Adds a watcher for a caller.
    pub(crate) fn watch(&self, _: Authorised) -> Watcher {
        // In this order: a poll that ends after both has published everything to this watcher, or read it before.
        let ring = self.shared.ring.subscribe();
        let polled_at = self.shared.polled_at.subscribe();
        self.shared.wanted.notify_one();
        Watcher { ring, polled_at, is_ready: false }
    }

    /// Polls until the lifecycle is closing.
    pub(crate) async fn run(self, store: Store, lifecycle: Lifecycle) {
        let metrics = FeedMetrics::new(&self.shared, &lifecycle);
        let work = async {
            let mut position = None;
            loop {
                while self.shared.ring.receiver_count() == 0 {
                    position = None;
                    self.shared.wanted.notified().await;
                }
                match self.poll(&store, position.as_ref()).await {
                    Ok(next) => {
                        position = Some(next);
                        sleep(POLL_EVERY).await;
                    }
                    Err(error) => {
                        metrics.failures.increment(1);
                        tracing::debug!(cause = causes(&error), "user changes cannot be polled");
                        sleep(jittered(RETRY_AFTER, 0.75..1.25)).await;
                    }
                }
            }
        };
        lifecycle.closing().run_until_cancelled(work).await;
    }

    /// Publishes what has changed since the position, and returns the next position.
    async fn poll(&self, store: &Store, last: Option<&Position>) -> Result<Position, Error> {
        let began = Instant::now();
        let read = store.read_changes(last).await?;
        match read.batch {
            Some(ChangedUsers(user_ids)) if read.is_whole => {
                if !user_ids.is_empty() {
                    for user in store.load_users(&user_ids).await? {
                        self.publish(Change::Changed(Arc::new(user)));
                    }
                }
            }
            // A gap, or more changes than watchers should receive one by one.
            _ => self.publish(Change::Ready),
        }
        self.shared.polled_at.send_replace(Some(began));
        Ok(read.position.skip_rest())
    }

    fn publish(&self, change: Change) {
        let kind = match change {
            Change::Ready => "ready",
            Change::Changed(_) => "changed",
        };
        counter!("parlance_changes_told_total", "kind" => kind).increment(1);
        // Fails when the last watcher has just been dropped.
        drop(self.shared.ring.send(change));
    }
}

impl Watcher {
    /// Waits for the next item, the first of which is [`Change::Ready`]. Cancel-safe. Returns `None` when the feed has ended.
    pub(crate) async fn next(&mut self) -> Option<Change> {
        loop {
            let received = tokio::select! {
                biased;
                received = self.ring.recv() => received,
                // A client that reads now sees what changed before that poll, and receives what changed after it.
                polled = self.polled_at.changed(), if !self.is_ready => {
                    polled.map(|()| Change::Ready).map_err(|_| RecvError::Closed)
                }
            };
            match received {
                Ok(Change::Ready) | Err(RecvError::Lagged(_)) => {
                    self.is_ready = true;
                    return Some(Change::Ready);
                }
                Ok(change) if self.is_ready => return Some(change),
                Ok(_) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    }

    /// True when everything that changed until a moment ago has been published and [`next`](Self::next) is waiting.
    pub(crate) fn is_current(&self) -> bool {
        self.is_ready && self.polled_at.borrow().is_some_and(|polled_at| polled_at.elapsed() < MAX_AGE)
    }
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;
    use tokio::time::timeout;

    use super::*;
    use crate::domain::{DisplayName, Etag, Rpc, UserId, UserState, Username};

    fn changed(version: i64) -> Change {
        let now = OffsetDateTime::UNIX_EPOCH;
        Change::Changed(Arc::new(User {
            user_id: UserId::parse("u").unwrap(),
            username: Some(Username::parse("u").unwrap()),
            display_name: DisplayName::default(),
            state: UserState::Active,
            etag: Etag::of_version(version),
            created_at: now,
            updated_at: now,
            deleted_at: None,
            tokens_valid_after: None,
        }))
    }

    fn version(change: Option<Change>) -> Option<i64> {
        match change.unwrap() {
            Change::Ready => None,
            Change::Changed(user) => Some(user.etag.version()),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn ready_comes_first_also_for_a_late_watcher() {
        let changes = Changes::new();
        let mut early = changes.watch(Authorised::unchecked(Rpc::WatchUsers));
        assert!(timeout(Duration::from_mins(1), early.next()).await.is_err());
        changes.publish(Change::Ready);
        changes.shared.polled_at.send_replace(Some(Instant::now()));
        changes.publish(changed(1));
        assert_eq!(version(early.next().await), None);
        assert_eq!(version(early.next().await), Some(1));

        let mut late = changes.watch(Authorised::unchecked(Rpc::WatchUsers));
        changes.publish(changed(2));
        changes.shared.polled_at.send_replace(Some(Instant::now()));
        changes.publish(changed(3));
        // Changes before it is ready may be left out: its client reads them.
        let first = late.next().await;
        assert!(matches!(first, Some(Change::Ready)), "{first:?}");
        assert_eq!(version(early.next().await), Some(2));
        assert_eq!(version(early.next().await), Some(3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_watcher_that_is_too_slow_starts_over() {
        let changes = Changes::with_capacity(4);
        let mut watcher = changes.watch(Authorised::unchecked(Rpc::WatchUsers));
        changes.publish(Change::Ready);
        assert_eq!(version(watcher.next().await), None);
        for version in 1..=9 {
            changes.publish(changed(version));
        }
        assert_eq!(version(watcher.next().await), None);
        for published in 6..=9 {
            assert_eq!(version(watcher.next().await), Some(published));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_feed_that_cannot_poll_does_not_claim_to_be_current() {
        let changes = Changes::new();
        let mut watcher = changes.watch(Authorised::unchecked(Rpc::WatchUsers));
        changes.shared.polled_at.send_replace(Some(Instant::now()));
        assert!(!watcher.is_current());
        assert_eq!(version(watcher.next().await), None);
        assert!(watcher.is_current());
        tokio::time::advance(MAX_AGE).await;
        assert!(!watcher.is_current());
    }
}
