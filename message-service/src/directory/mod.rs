//! The directory: the cached client of user-service. No message is stored and nothing is shown on behalf of a user before
//! user-service has reported the user as active.
//!
//! States are cached (`user_cache.rs`), expired by change notifications (`watch.rs`), and streams of users who may no
//! longer act are ended (`active_users.rs`). `client.rs` makes the calls, to one of the `replicas.rs`.

mod active_users;
mod address;
mod cached_user;
mod change_feed;
mod client;
mod metrics;
mod replicas;
mod user_cache;
mod watch;

use std::{collections::HashMap, time::Instant};

use service_kit::{
    auth::{SelfToken, Tenure},
    lifecycle::Lifecycle,
};

use self::{
    active_users::ActiveUsers,
    cached_user::{CachedUser, UserState, require_active},
    client::UserClient,
    replicas::Replicas,
    user_cache::UserCache,
    watch::Watch,
};
use crate::domain::{ids::UserId, refusal::Refusal};

pub(crate) use self::{active_users::OpenStream, client::LookupError};
pub use self::{
    address::{Address, NotAnAddress},
    cached_user::Settings,
};

/// The error of a check of users.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum DirectoryError {
    /// A user is unknown, deactivated or deleted.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// User-service cannot be reached, and there is no fallback.
    #[error("user-service cannot be reached")]
    Unavailable(#[from] LookupError),
}

/// The cached client of user-service. Cheap to clone; clones share everything.
#[derive(Debug, Clone)]
pub(crate) struct Directory {
    cache: UserCache,
    active_users: ActiveUsers,
}

impl Directory {
    /// Starts a directory with an empty cache, which connects at its first lookup and shows user-service this token.
    pub(crate) fn start(settings: Settings, token: Option<SelfToken>, lifecycle: &Lifecycle) -> Self {
        let client = UserClient::new(Replicas::start(&settings.address, lifecycle), token);
        let cache = UserCache::new(settings, client.clone(), lifecycle);
        let active_users = ActiveUsers::default();
        let watch = Watch { client, cache: cache.clone(), active_users: active_users.clone() };
        lifecycle.spawn("user changes", watch.run(lifecycle.clone()));
        lifecycle.spawn("active users", active_users.clone().run(cache.clone(), lifecycle.clone()));
        Self { cache, active_users }
    }

    /// Checks that the actor is active, that its token, issued at this second since 1970, was not revoked, and that the
    /// others whom the request names are active. Waits until `deadline` at most.
    ///
    /// # Errors
    /// As [`check_active`](Self::check_active); or the token was revoked.
    pub(crate) async fn check_actor(
        &self,
        actor: &UserId,
        issued_at: Option<i64>,
        others: &[UserId],
        deadline: Instant,
    ) -> Result<(), DirectoryError> {
        let user = if others.is_empty() {
            let user = self.cache.get(actor, deadline).await?;
            require_active(&[(actor, user.state)])?;
            Some(user)
        } else {
            let all: Vec<UserId> = std::iter::once(actor).chain(others).cloned().collect();
            self.active(&all, deadline).await?.remove(actor)
        };
        Ok(user.map_or(Ok(()), |user| user.require_valid_token(actor, issued_at))?)
    }

    /// Checks that all of these users are active. Waits until `deadline` at most.
    ///
    /// # Errors
    /// The refusal names every unknown user; if there is none, every deleted one; else every deactivated one (at most 15).
    pub(crate) async fn check_active(&self, user_ids: &[UserId], deadline: Instant) -> Result<(), DirectoryError> {
        self.active(user_ids, deadline).await.map(drop)
    }

    /// Returns these users, who are all active.
    async fn active(
        &self,
        user_ids: &[UserId],
        deadline: Instant,
    ) -> Result<HashMap<UserId, CachedUser>, DirectoryError> {
        let users = self.cache.get_many(user_ids, deadline).await?;
        let state = |id| users.get(id).map_or(UserState::Unknown, |user: &CachedUser| user.state);
        require_active(&user_ids.iter().map(|id| (id, state(id))).collect::<Vec<_>>())?;
        Ok(users)
    }

    /// Reports whether user-service knows all of these users as deleted. Waits until `deadline` at most.
    pub(crate) async fn are_deleted(&self, user_ids: &[UserId], deadline: Instant) -> Result<bool, DirectoryError> {
        let users = self.cache.get_many(user_ids, deadline).await?;
        Ok(user_ids.iter().all(|id| users.get(id).is_some_and(|user| user.state == UserState::Deleted)))
    }

    /// Returns the first of these users who is active. Waits until `deadline` at most.
    pub(crate) async fn first_active<'u>(
        &self,
        user_ids: &'u [UserId],
        deadline: Instant,
    ) -> Result<Option<&'u UserId>, DirectoryError> {
        let users = self.cache.get_many(user_ids, deadline).await?;
        Ok(user_ids.iter().find(|id| users.get(*id).is_some_and(|user| user.state == UserState::Active)))
    }

    /// Registers an open stream of a user who was found active a moment ago.
    pub(crate) fn open_stream(&self, user_id: &UserId, tenure: Tenure) -> OpenStream {
        self.active_users.open_stream(user_id, tenure)
    }
}

#[cfg(test)]
mod tests;
