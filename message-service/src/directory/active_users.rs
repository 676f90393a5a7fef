//! The users with open streams. When a user may no longer act, the user's streams end. However many streams a user has, one
//! lookup serves them all.
//!
//! A user is checked when the first stream opens (a cached state suffices), when a change is notified, and when the change
//! feed starts. While the feed is down, all are checked periodically.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, OnceLock},
    time::{Duration, Instant},
};

use service_kit::{auth::Tenure, backoff, lifecycle::Lifecycle, sync::lock};
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    cached_user::{UserState, require_active},
    user_cache::{MAX_BATCH, UserCache},
};
use crate::domain::{ids::UserId, refusal::Refusal};

/// The interval of checks of all users while the change feed is down; jittered up to a quarter longer.
const RECHECK_INTERVAL: Duration = Duration::from_secs(15);

/// The timeout of one check.
const CHECK_TIMEOUT: Duration = Duration::from_secs(4);

/// The pause after a failed check; jittered up to twice as long.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// The users with open streams, and those of them that are to be checked. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct ActiveUsers {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Each with the number of its open streams.
    users: HashMap<UserId, (Arc<User>, usize)>,
    to_check: HashSet<UserId>,
}

/// A user with open streams.
#[derive(Debug, Default)]
struct User {
    ended: CancellationToken,
    reason: OnceLock<Refusal>,
    /// Streams by tokens that were issued before this second since 1970 end.
    tokens_valid_after: watch::Sender<Option<i64>>,
}

/// The registration of an open stream; dropping it ends the registration.
#[derive(Debug)]
pub(crate) struct OpenStream {
    active_users: ActiveUsers,
    user_id: UserId,
    user: Arc<User>,
    tenure: Tenure,
}

impl ActiveUsers {
    /// Registers an open stream of a user who was found active a moment ago.
    pub(super) fn open_stream(&self, user_id: &UserId, tenure: Tenure) -> OpenStream {
        let mut state = lock(&self.shared.state);
        let (user, count) = state.users.entry(user_id.clone()).or_default();
        *count += 1;
        let user = user.clone();
        // A change since that moment has removed the state from the cache, so this check finds it.
        state.to_check.insert(user_id.clone());
        drop(state);
        self.shared.changed.notify_one();
        OpenStream { active_users: self.clone(), user_id: user_id.clone(), user, tenure }
    }

    /// Requests a check of a user, if the user has open streams.
    pub(super) fn recheck(&self, user_id: &UserId) {
        let mut state = lock(&self.shared.state);
        if state.users.contains_key(user_id) {
            state.to_check.insert(user_id.clone());
            drop(state);
            self.shared.changed.notify_one();
        }
    }

    /// Requests a check of all users with open streams.
    pub(super) fn recheck_all(&self) {
        let mut state = lock(&self.shared.state);
        state.to_check = state.users.keys().cloned().collect();
        drop(state);
        self.shared.changed.notify_one();
    }

    /// Performs the checks, until the lifecycle is closing.
    pub(super) async fn run(self, cache: UserCache, lifecycle: Lifecycle) {
        let work = async {
            let mut all_at = Instant::now() + RECHECK_INTERVAL;
            loop {
                let left = all_at.saturating_duration_since(Instant::now());
                if timeout(left, self.shared.changed.notified()).await.is_err() {
                    all_at = Instant::now() + backoff::jittered(RECHECK_INTERVAL, 1.0..1.25);
                    if !cache.is_watched() {
                        self.recheck_all();
                    }
                }
                self.check_pending(&cache).await;
            }
        };
        lifecycle.closing().run_until_cancelled(work).await;
    }

    async fn check_pending(&self, cache: &UserCache) {
        loop {
            let ids: Vec<UserId> = {
                let mut state = lock(&self.shared.state);
                let ids: Vec<UserId> = state.to_check.iter().take(MAX_BATCH).cloned().collect();
                for id in &ids {
                    state.to_check.remove(id);
                }
                ids
            };
            if ids.is_empty() {
                return;
            }
            if let Ok(users) = cache.get_many(&ids, Instant::now() + CHECK_TIMEOUT).await {
                for id in ids {
                    let found = users.get(&id);
                    let state = found.map_or(UserState::Unknown, |user| user.state);
                    match require_active(&[(&id, state)]) {
                        Err(reason) => self.end(&id, reason),
                        Ok(()) => self.revoke(&id, found.and_then(|user| user.tokens_valid_after)),
                    }
                }
            } else {
                // Without a response the streams stay open.
                tokio::time::sleep(backoff::jittered(RETRY_PAUSE, 1.0..2.0)).await;
                let mut state = lock(&self.shared.state);
                let State { users, to_check } = &mut *state;
                to_check.extend(ids.into_iter().filter(|id| users.contains_key(id)));
            }
        }
    }

    /// Ends the streams of earlier tokens.
    fn revoke(&self, user_id: &UserId, tokens_valid_after: Option<i64>) {
        let user = lock(&self.shared.state).users.get(user_id).map(|(user, _)| Arc::clone(user));
        if let Some(user) = user {
            let is_new = |last: &mut Option<i64>| std::mem::replace(last, tokens_valid_after) != tokens_valid_after;
            user.tokens_valid_after.send_if_modified(is_new);
        }
    }

    fn end(&self, user_id: &UserId, reason: Refusal) {
        let user = lock(&self.shared.state).users.remove(user_id);
        if let Some((user, _)) = user {
            user.reason.get_or_init(|| reason);
            user.ended.cancel();
        }
    }
}

impl OpenStream {
    /// Waits until the user may no longer act, or not by this token, and returns the reason. Dropping the future is harmless.
    pub(crate) async fn ended(&self) -> Refusal {
        // Without a token of the user there is nothing to revoke, and this is asked for each item.
        if self.tenure.issued_at().is_none() {
            self.user.ended.cancelled().await;
        } else {
            let mut valid_after = self.user.tokens_valid_after.subscribe();
            // A token that is renewed meanwhile is later than what was revoked.
            let is_revoked =
                |after: &Option<i64>| after.is_some_and(|after| self.tenure.issued_at().is_some_and(|at| at < after));
            tokio::select! {
                () = self.user.ended.cancelled() => {}
                Ok(_) = valid_after.wait_for(is_revoked) => {
                    return Refusal::TokenRevoked { user_id: self.user_id.clone() };
                }
            }
        }
        let unknown = || Refusal::UserNotFound { user_ids: vec![self.user_id.clone()] };
        self.user.reason.get().cloned().unwrap_or_else(unknown)
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let mut state = lock(&self.active_users.shared.state);
        // An ended user is already removed, and a new one may have been registered since.
        if let Some((user, count)) = state.users.get_mut(&self.user_id)
            && Arc::ptr_eq(user, &self.user)
        {
            *count -= 1;
            if *count == 0 {
                state.users.remove(&self.user_id);
                state.to_check.remove(&self.user_id);
            }
        }
    }
}
