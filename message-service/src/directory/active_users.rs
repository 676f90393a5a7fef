//! Those on whose behalf something lasts, such as a stream: when user-service says that one may no longer act, what lasts is
//! told to end. However many streams a user has, it is one question.
//!
//! A user is asked about when the first stream begins (an answer that is fresh will do), when a change is told of, and when
//! changes begin to be told of. While they are not, all are asked about again and again.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, OnceLock},
    time::{Duration, Instant},
};

use service_kit::lifecycle::Lifecycle;
use tokio::{sync::Notify, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{Directory, DirectoryError, MAX_BATCH, answer::Standing, judge, lock};
use crate::domain::{ids::UserId, refusal::Refusal};

/// While changes are not told of, everybody is asked about this often.
const ASK_EVERY: Duration = Duration::from_secs(15);

/// How long one question may take.
const LIMIT: Duration = Duration::from_secs(4);

/// Before a question that got no answer is put again; jittered up to twice as long.
const PAUSE: Duration = Duration::from_millis(500);

/// Who is active_users, and who of them is to be asked about.
#[derive(Debug, Default)]
pub(super) struct ActiveUsers {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Each with the number of its attendances.
    users: HashMap<UserId, (Arc<User>, usize)>,
    to_ask: HashSet<UserId>,
}

/// One user with something that lasts.
#[derive(Debug, Default)]
struct User {
    ended: CancellationToken,
    why: OnceLock<Refusal>,
}

/// A user is active_users for as long as this lives.
#[derive(Debug)]
pub(crate) struct OpenStream {
    directory: Directory,
    user_id: UserId,
    user: Arc<User>,
}

impl Directory {
    /// Attends a user, who was found active a moment ago.
    pub(crate) fn open_stream(&self, user_id: &UserId) -> OpenStream {
        let active_users = &self.shared.active_users;
        let mut state = lock(&active_users.state);
        let (user, count) = state.users.entry(user_id.clone()).or_default();
        *count += 1;
        let user = user.clone();
        // Whatever has happened to the user since that moment: the answer is not remembered any more, and asked for again.
        state.to_ask.insert(user_id.clone());
        drop(state);
        active_users.changed.notify_one();
        OpenStream { directory: self.clone(), user_id: user_id.clone(), user }
    }

    /// Asks about a user again, if it is active_users.
    pub(super) fn ask_again_about(&self, user_id: &UserId) {
        let active_users = &self.shared.active_users;
        let mut state = lock(&active_users.state);
        if state.users.contains_key(user_id) {
            state.to_ask.insert(user_id.clone());
            drop(state);
            active_users.changed.notify_one();
        }
    }

    /// Asks about everybody again.
    pub(super) fn ask_again_about_all(&self) {
        let active_users = &self.shared.active_users;
        let mut state = lock(&active_users.state);
        state.to_ask = state.users.keys().cloned().collect();
        drop(state);
        active_users.changed.notify_one();
    }

    /// Asks, until the lifecycle is closing.
    pub(super) async fn recheck_active_users(self, lifecycle: Lifecycle) {
        let work = async {
            let mut all_at = Instant::now() + ASK_EVERY;
            loop {
                let left = all_at.saturating_duration_since(Instant::now());
                if timeout(left, self.shared.active_users.changed.notified()).await.is_err() {
                    all_at = Instant::now() + ASK_EVERY.mul_f64(1.0 + fastrand::f64() / 4.0);
                    if !lock(&self.shared.feed).is_up(Instant::now()) {
                        self.ask_again_about_all();
                    }
                }
                self.ask_those_to_ask().await;
            }
        };
        lifecycle.closing().run_until_cancelled(Box::pin(work)).await;
    }

    async fn ask_those_to_ask(&self) {
        loop {
            let ids: Vec<UserId> = {
                let mut state = lock(&self.shared.active_users.state);
                let ids: Vec<UserId> = state.to_ask.iter().take(MAX_BATCH).cloned().collect();
                for id in &ids {
                    state.to_ask.remove(id);
                }
                ids
            };
            if ids.is_empty() {
                return;
            }
            if let Ok(answers) = self.answers(&ids, Instant::now() + LIMIT).await {
                for id in ids {
                    let standing = answers.get(&id).map_or(Standing::Unknown, |answer| answer.standing);
                    if let Err(DirectoryError::Refused(why)) = judge(&[(&id, standing)]) {
                        self.end(&id, why);
                    }
                }
            } else {
                // No answer is no verdict.
                tokio::time::sleep(PAUSE.mul_f64(1.0 + fastrand::f64())).await;
                let mut state = lock(&self.shared.active_users.state);
                let State { users, to_ask } = &mut *state;
                to_ask.extend(ids.into_iter().filter(|id| users.contains_key(id)));
            }
        }
    }

    fn end(&self, user_id: &UserId, why: Refusal) {
        let user = lock(&self.shared.active_users.state).users.remove(user_id);
        if let Some((user, _)) = user {
            user.why.get_or_init(|| why);
            user.ended.cancel();
        }
    }
}

impl OpenStream {
    /// Waits until user-service has said that the user may no longer act, and why. May be dropped and asked again.
    pub(crate) async fn ended(&self) -> Refusal {
        self.user.ended.cancelled().await;
        let unknown = || Refusal::UserNotFound { user_ids: vec![self.user_id.clone()] };
        self.user.why.get().cloned().unwrap_or_else(unknown)
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let mut state = lock(&self.directory.shared.active_users.state);
        // One that was ended is out already, and another may have come in its place.
        if let Some((user, count)) = state.users.get_mut(&self.user_id)
            && Arc::ptr_eq(user, &self.user)
        {
            *count -= 1;
            if *count == 0 {
                state.users.remove(&self.user_id);
                state.to_ask.remove(&self.user_id);
            }
        }
    }
}
