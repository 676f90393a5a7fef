//! The cached states of users, looked up in user-service when they expire.
//!
//! Concurrent lookups of one user share one call, and while user-service cannot be reached the last "active" is used
//! within the fallback TTL. No other state is ever assumed.
//!
//! While change notifications arrive ([`ChangeFeed`]), the cache TTL is longer: a change removes its user from the cache,
//! and each start of the feed expires every state. All states are stored in one place ([`UserCache::store`]), which
//! rejects those requested before a change; nor can a lookup that began before a change be joined after it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared, try_join_all},
};
use moka::{future::Cache, ops::compute::Op};
use service_kit::{causes::causes, lifecycle::Lifecycle, sync::lock, telemetry::metrics};
use tokio::time::{Instant as TokioInstant, timeout, timeout_at};

use super::{
    cached_user::{CachedUser, Settings},
    change_feed::{ChangeFeed, Generation},
    client::{LookupError, UserClient},
    metrics::DirectoryMetrics,
};
use crate::domain::ids::UserId;

/// The most cached users.
const MAX_CACHED_USERS: u64 = 100_000;
/// The most ids of one call to user-service.
pub(super) const MAX_BATCH: usize = 1_000;
/// The timeout of a lookup that has a fallback. The lookup continues, and its result serves the next call.
pub(super) const FALLBACK_TIMEOUT: Duration = Duration::from_secs(1);
/// After a failed lookup, fallbacks are used for this long without another lookup.
const OUTAGE_PAUSE: Duration = Duration::from_secs(1);

/// The cache. Cheap to clone; clones share everything.
#[derive(Debug, Clone)]
pub(super) struct UserCache {
    shared: Arc<State>,
}

#[derive(Debug)]
struct State {
    settings: Settings,
    client: UserClient,
    users: Cache<UserId, CachedUser>,
    /// Lookups of single users that are running and may be joined.
    lookups: Mutex<HashMap<UserId, (Generation, Lookup)>>,
    /// Locked inside of the lookups or alone.
    feed: Mutex<ChangeFeed>,
    /// The time of the last failed lookup, unless one has succeeded since.
    failing_since: Mutex<Option<Instant>>,
    metrics: DirectoryMetrics,
    lifecycle: Lifecycle,
}

/// A running lookup, shared by its callers: it continues when one of them hangs up.
type Lookup = Shared<BoxFuture<'static, Result<CachedUser, LookupError>>>;

impl UserCache {
    /// Creates an empty cache.
    pub(super) fn new(settings: Settings, client: UserClient, lifecycle: &Lifecycle) -> Self {
        // States that are too old for any use expire in the cache; the other rules on age are in `CachedUser`.
        let lifetime = settings.cache_ttl.max(settings.fallback_ttl).max(Duration::from_secs(1));
        let state = State {
            settings,
            client,
            users: Cache::builder().max_capacity(MAX_CACHED_USERS).time_to_live(lifetime).build(),
            lookups: Mutex::default(),
            feed: Mutex::default(),
            failing_since: Mutex::default(),
            metrics: DirectoryMetrics::new(),
            lifecycle: lifecycle.clone(),
        };
        let cache = Self { shared: Arc::new(state) };
        let watched = cache.clone();
        metrics::watch(lifecycle, move || {
            let metrics = &watched.shared.metrics;
            metrics.users.set(watched.shared.users.entry_count() as f64);
            metrics.following.set(f64::from(u8::from(watched.is_watched())));
        });
        cache
    }

    /// Returns true while change notifications arrive.
    pub(super) fn is_watched(&self) -> bool {
        lock(&self.shared.feed).is_up(Instant::now())
    }

    /// Returns the state of one user: cached, from a lookup that all concurrent callers share, or the fallback.
    pub(super) async fn get(&self, user_id: &UserId, deadline: Instant) -> Result<CachedUser, LookupError> {
        let State { settings, metrics, .. } = &*self.shared;
        let now = Instant::now();
        let cached = self.shared.users.get(user_id).await;
        if let Some(cached) = cached.filter(|cached| self.is_current(cached, now)) {
            metrics.cached.increment(1);
            return Ok(cached);
        }
        let fallback = cached.filter(|cached| cached.is_fallback(now, settings));
        let is_outage = lock(&self.shared.failing_since).is_some_and(|since| now < since + OUTAGE_PAUSE);
        if let (Some(fallback), true) = (fallback, is_outage) {
            metrics.fallback.increment(1);
            return Ok(fallback);
        }
        let deadline = if fallback.is_some() { deadline.min(now + FALLBACK_TIMEOUT) } else { deadline };
        let outcome = match timeout_at(TokioInstant::from_std(deadline), self.lookup(user_id)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(LookupError::Timeout { limit: deadline.saturating_duration_since(now) }),
        };
        let counter = match (&outcome, fallback) {
            (Ok(_), _) => &metrics.looked_up,
            (Err(_), Some(_)) => &metrics.fallback,
            (Err(_), None) => &metrics.unavailable,
        };
        counter.increment(1);
        outcome.or_else(|error| fallback.ok_or(error))
    }

    fn is_current(&self, cached: &CachedUser, now: Instant) -> bool {
        let feed = lock(&self.shared.feed);
        !feed.is_uncertain(cached.generation) && cached.is_current(now, feed.is_up(now), &self.shared.settings)
    }

    /// Returns the running lookup of this user, or starts one if there is none that reflects all changes so far.
    fn lookup(&self, user_id: &UserId) -> Lookup {
        let mut lookups = lock(&self.shared.lookups);
        let (generation, joinable) = {
            let feed = lock(&self.shared.feed);
            let joinable = lookups.get(user_id).filter(|(generation, _)| !feed.is_outdated(user_id, *generation));
            (feed.generation(), joinable)
        };
        if let Some((_, lookup)) = joinable {
            return lookup.clone();
        }
        let (cache, id) = (self.clone(), user_id.clone());
        let job = self.shared.lifecycle.spawn_job("look up user", async move {
            let outcome = cache.shared.client.get_user(&id, generation).await;
            cache.record(outcome.as_ref().err());
            if let Ok(user) = &outcome {
                cache.store(id.clone(), *user).await;
            }
            // Stored first: a caller that finds no running lookup finds the state in the cache.
            cache.lookup_ended(&id, generation);
            outcome
        });
        let (cache, id) = (self.clone(), user_id.clone());
        let lookup = async move {
            job.await.unwrap_or_else(|_| {
                cache.lookup_ended(&id, generation);
                Err(LookupError::Aborted)
            })
        };
        let lookup = lookup.boxed().shared();
        lookups.insert(user_id.clone(), (generation, lookup.clone()));
        lookup
    }

    /// Removes a lookup, unless a newer one has replaced it.
    fn lookup_ended(&self, user_id: &UserId, generation: Generation) {
        let mut lookups = lock(&self.shared.lookups);
        if lookups.get(user_id).is_some_and(|(current, _)| *current == generation) {
            lookups.remove(user_id);
        }
    }

    /// Returns the states of several users, by `BatchGetUsers` for those that are not cached. A single one is looked up
    /// as in [`get`](Self::get).
    pub(super) async fn get_many(
        &self,
        user_ids: &[UserId],
        deadline: Instant,
    ) -> Result<HashMap<UserId, CachedUser>, LookupError> {
        let now = Instant::now();
        let (mut users, mut fallbacks, mut missing) = (HashMap::new(), HashMap::new(), Vec::new());
        for id in user_ids {
            match self.shared.users.get(id).await {
                Some(cached) if self.is_current(&cached, now) => drop(users.insert(id.clone(), cached)),
                cached => {
                    missing.push(id.clone());
                    let fallback = cached.filter(|cached| cached.is_fallback(now, &self.shared.settings));
                    fallbacks.extend(fallback.map(|fallback| (id.clone(), fallback)));
                }
            }
        }
        missing.sort_unstable();
        missing.dedup();
        match missing.as_slice() {
            [] => {}
            [user_id] => drop(users.insert(user_id.clone(), self.get(user_id, deadline).await?)),
            missing => match self.look_up_all(missing, deadline.saturating_duration_since(now)).await {
                Ok(found) => users.extend(found),
                // All or none: a request that names one user without a fallback cannot continue anyway.
                Err(error) if fallbacks.len() < missing.len() => return Err(error),
                Err(_) => users.extend(fallbacks),
            },
        }
        Ok(users)
    }

    async fn look_up_all(
        &self,
        user_ids: &[UserId],
        limit: Duration,
    ) -> Result<Vec<(UserId, CachedUser)>, LookupError> {
        let generation = lock(&self.shared.feed).generation();
        let calls =
            user_ids.chunks(MAX_BATCH).map(|chunk| self.shared.client.batch_get_users(chunk, generation, limit));
        let outcome = timeout(limit, try_join_all(calls)).await.unwrap_or(Err(LookupError::Timeout { limit }));
        // A failure may be due to the caller's short deadline and is not recorded as an outage.
        let users: Vec<(UserId, CachedUser)> = outcome?.into_iter().flatten().collect();
        self.record(None);
        for (id, user) in &users {
            self.store(id.clone(), *user).await;
        }
        Ok(users)
    }

    /// Stores a state, unless a newer one is stored or the user has changed since it was requested.
    async fn store(&self, user_id: UserId, user: CachedUser) {
        let id = user_id.clone();
        // Compared inside: a change raises the generation and then removes the user, and the cache serialises both.
        let keep_newer = |entry: Option<moka::Entry<UserId, CachedUser>>| {
            let is_late = entry.is_some_and(|entry| entry.value().requested_at > user.requested_at)
                || lock(&self.shared.feed).is_outdated(&id, user.generation);
            std::future::ready(if is_late { Op::Nop } else { Op::Put(user) })
        };
        self.shared.users.entry(user_id).and_compute_with(keep_newer).await;
    }

    /// Starts the change feed: cached states expire, and serve only as fallbacks.
    pub(super) fn feed_ready(&self, now: Instant) {
        lock(&self.shared.feed).ready(now);
    }

    /// Removes a user who has changed.
    pub(super) async fn user_changed(&self, user_id: UserId, now: Instant) {
        lock(&self.shared.feed).changed(user_id.clone(), now);
        self.shared.users.entry(user_id).and_compute_with(|_| std::future::ready(Op::Remove)).await;
    }

    /// Records a heartbeat of the change feed.
    pub(super) fn feed_heartbeat(&self, now: Instant) {
        lock(&self.shared.feed).heartbeat(now);
    }

    /// Stops the change feed.
    pub(super) fn feed_disconnected(&self) {
        lock(&self.shared.feed).disconnected();
    }

    /// Records the result of a lookup. Logs the start of an outage and its end, one line each.
    fn record(&self, error: Option<&LookupError>) {
        let mut since = lock(&self.shared.failing_since);
        let was_failing = since.is_some();
        *since = error.map(|_| Instant::now());
        let address = &self.shared.settings.address;
        match error {
            Some(cause) if !was_failing && cause.is_of_another_service() => {
                tracing::error!(%address, "USER_SERVICE_URL leads to a server that is no user-service");
            }
            Some(cause) if !was_failing => {
                tracing::warn!(cause = causes(cause), %address, "user-service cannot be reached");
            }
            None if was_failing => tracing::info!("user-service can be reached again"),
            Some(_) | None => {}
        }
    }

    #[cfg(test)]
    pub(super) fn address(&self) -> &super::address::Address {
        &self.shared.settings.address
    }

    #[cfg(test)]
    pub(super) fn generation(&self) -> Generation {
        lock(&self.shared.feed).generation()
    }

    #[cfg(test)]
    pub(super) async fn cached(&self, user_id: &UserId) -> Option<CachedUser> {
        self.shared.users.get(user_id).await
    }
}
