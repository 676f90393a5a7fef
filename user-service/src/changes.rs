//! The feed of changes: one task for each process looks for them, and tells everybody who watches.
//!
//! It looks while somebody watches, and only then. A watcher is never told less than there was: whoever may have missed
//! something, by being slow or because nobody could look for too long, is told [`Change::Ready`] again. No queue grows:
//! what is told is one ring, shared by all.

use std::{sync::Arc, time::Duration};

use service_kit::{
    lifecycle::Lifecycle,
    telemetry::metrics::{self, counter, gauge},
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
    domain::User,
    storage::{Error, Snapshot, Store},
};

/// From one look to the next.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// After a look that failed.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// A look that long after the last one may miss rows: they are kept for five minutes.
const MAX_GAP: Duration = Duration::from_mins(2);
/// A feed whose last look is older than this cannot say that nothing happened.
const MAX_AGE: Duration = Duration::from_secs(2);
/// What a watcher may be behind by before it has to begin anew.
const RING: usize = 4_096;

/// What a watcher is told.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    /// From here on everything is told; what was known before is not certain.
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
    told: broadcast::Sender<Change>,
    /// When the last look that succeeded began. Set after everything that it saw is told.
    looked: watch::Sender<Option<Instant>>,
    /// Somebody came to watch.
    wanted: Notify,
}

/// One who watches. Dropping it is all it takes to stop.
#[derive(Debug)]
pub(crate) struct Watcher {
    told: broadcast::Receiver<Change>,
    looked: watch::Receiver<Option<Instant>>,
    /// Told that it is ready.
    is_ready: bool,
}

/// The last look that succeeded.
#[derive(Debug)]
struct Last {
    began: Instant,
    snapshot: Snapshot,
}

impl Changes {
    /// Makes a feed that nobody watches.
    pub(crate) fn new() -> Self {
        Self::with_room_for(RING)
    }

    fn with_room_for(most: usize) -> Self {
        let shared =
            Shared { told: broadcast::Sender::new(most), looked: watch::Sender::new(None), wanted: Notify::new() };
        Self { shared: Arc::new(shared) }
    }

    /// Begins to watch.
    pub(crate) fn watch(&self) -> Watcher {
        // In this order: a look that is seen to end after both has told everything to us, or saw it before.
        let told = self.shared.told.subscribe();
        let looked = self.shared.looked.subscribe();
        self.shared.wanted.notify_one();
        Watcher { told, looked, is_ready: false }
    }

    /// Looks for changes until the lifecycle is closing.
    pub(crate) async fn look(self, store: Store, lifecycle: Lifecycle) {
        counter!("parlance_changes_failures_total").increment(0);
        let shared = self.shared.clone();
        let watchers = gauge!("parlance_watchers");
        metrics::watch(&lifecycle, move || watchers.set(shared.told.receiver_count() as f64));
        let work = async {
            let mut last = None;
            loop {
                while self.shared.told.receiver_count() == 0 {
                    last = None;
                    self.shared.wanted.notified().await;
                }
                match self.look_once(&store, last.as_ref()).await {
                    Ok(this) => {
                        last = Some(this);
                        sleep(LOOK_EVERY).await;
                    }
                    Err(error) => {
                        counter!("parlance_changes_failures_total").increment(1);
                        tracing::debug!(cause = &error as &dyn std::error::Error, "changes cannot be looked for");
                        sleep(LOOK_AGAIN).await;
                    }
                }
            }
        };
        lifecycle.closing().run_until_cancelled(work).await;
    }

    async fn look_once(&self, store: &Store, last: Option<&Last>) -> Result<Last, Error> {
        let began = Instant::now();
        let snapshot = match last.filter(|last| began.saturating_duration_since(last.began) <= MAX_GAP) {
            None => {
                let snapshot = store.snapshot().await?;
                self.tell(Change::Ready);
                snapshot
            }
            Some(last) => {
                let look = store.look(&last.snapshot).await?;
                match look.changed {
                    Some(user_ids) if user_ids.is_empty() => {}
                    Some(user_ids) => {
                        let users = store.find_users(&user_ids).await?;
                        for user in users {
                            self.tell(Change::Changed(Arc::new(user)));
                        }
                    }
                    None => self.tell(Change::Ready),
                }
                look.snapshot
            }
        };
        self.shared.looked.send_replace(Some(began));
        Ok(Last { began, snapshot })
    }

    fn tell(&self, change: Change) {
        let kind = match change {
            Change::Ready => "ready",
            Change::Changed(_) => "changed",
        };
        counter!("parlance_changes_told_total", "kind" => kind).increment(1);
        // It fails when the last watcher has just gone.
        drop(self.shared.told.send(change));
    }
}

impl Watcher {
    /// Waits for what is to be told next; first of all [`Change::Ready`]. Loses nothing when it is dropped half-way. None
    /// when the feed is gone.
    pub(crate) async fn next(&mut self) -> Option<Change> {
        loop {
            let told = tokio::select! {
                biased;
                told = self.told.recv() => told,
                // What changed before that look is seen by whoever asks now, what changed after it will be told.
                looked = self.looked.changed(), if !self.is_ready => {
                    looked.map(|()| Change::Ready).map_err(|_| RecvError::Closed)
                }
            };
            match told {
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

    /// True when all that changed until a moment ago has been told, once [`next`](Self::next) has nothing to give.
    pub(crate) fn is_current(&self) -> bool {
        self.is_ready && self.looked.borrow().is_some_and(|looked| looked.elapsed() < MAX_AGE)
    }
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;
    use tokio::time::timeout;

    use super::*;
    use crate::domain::{DisplayName, Etag, State, UserId, Username};

    fn changed(version: i64) -> Change {
        let now = OffsetDateTime::UNIX_EPOCH;
        Change::Changed(Arc::new(User {
            user_id: UserId::parse("u").unwrap(),
            username: Some(Username::parse("u").unwrap()),
            display_name: DisplayName::default(),
            state: State::Active,
            etag: Etag::of_version(version),
            created_at: now,
            updated_at: now,
            deleted_at: None,
        }))
    }

    fn version(change: Option<Change>) -> Option<i64> {
        match change.unwrap() {
            Change::Ready => None,
            Change::Changed(user) => Some(user.etag.version()),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn ready_comes_first_even_to_who_comes_late() {
        let changes = Changes::new();
        let mut early = changes.watch();
        assert!(timeout(Duration::from_mins(1), early.next()).await.is_err());
        changes.tell(Change::Ready);
        changes.shared.looked.send_replace(Some(Instant::now()));
        changes.tell(changed(1));
        assert_eq!(version(early.next().await), None);
        assert_eq!(version(early.next().await), Some(1));

        let mut late = changes.watch();
        changes.tell(changed(2));
        changes.shared.looked.send_replace(Some(Instant::now()));
        changes.tell(changed(3));
        // What came before it is ready may be left out: it can be seen by asking.
        let first = late.next().await;
        assert!(matches!(first, Some(Change::Ready)), "{first:?}");
        assert_eq!(version(early.next().await), Some(2));
        assert_eq!(version(early.next().await), Some(3));
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_too_slow_is_told_to_begin_anew() {
        let changes = Changes::with_room_for(4);
        let mut watcher = changes.watch();
        changes.tell(Change::Ready);
        assert_eq!(version(watcher.next().await), None);
        for version in 1..=9 {
            changes.tell(changed(version));
        }
        assert_eq!(version(watcher.next().await), None);
        for told in 6..=9 {
            assert_eq!(version(watcher.next().await), Some(told));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_feed_that_cannot_look_does_not_claim_to_be_current() {
        let changes = Changes::new();
        let mut watcher = changes.watch();
        changes.shared.looked.send_replace(Some(Instant::now()));
        assert!(!watcher.is_current());
        assert_eq!(version(watcher.next().await), None);
        assert!(watcher.is_current());
        tokio::time::advance(MAX_AGE).await;
        assert!(!watcher.is_current());
    }
}
