//! The directory: what user-service says about the users that requests name. No message is stored and nothing is shown
//! on behalf of a user before user-service has said that the user is active.
//!
//! Answers are remembered for a moment ([`answer`]), concurrent questions about one user are one call, and while
//! user-service gives no answer the last "active" holds for a while. Nothing else is ever assumed.
//!
//! User-service tells of changes ([`follow`]). While it does, answers are gone by for longer: a change makes the directory
//! forget its user, and each beginning of being told makes every answer stale. Every answer carries the moment and the
//! generation ([`feed`]) it was asked in and is stored in one place ([`Directory::remember`]), which turns away what was
//! asked for before a change; nor can a question put before a change be joined after it.

mod active_users;
mod answer;
mod ask;
mod feed;
mod follow;
mod peers;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared, try_join_all},
};
use moka::{future::Cache, ops::compute::Op};
use service_kit::{lifecycle::Lifecycle, telemetry::metrics};
use tokio::time::{Instant as TokioInstant, timeout, timeout_at};

use self::{
    active_users::ActiveUsers,
    answer::{Answer, Standing},
    ask::Asker,
    feed::{Feed, Generation},
    peers::Peers,
};
use crate::{
    domain::{ids::UserId, refusal::Refusal},
    metrics::DirectoryMetrics,
};

pub(crate) use self::{active_users::OpenStream, ask::NoAnswer};
pub use self::{
    answer::Settings,
    peers::{Address, NotAnAddress},
};

/// The most users remembered.
const MAX_REMEMBERED: u64 = 100_000;
/// The most ids of one question to user-service.
const MAX_BATCH: usize = 1_000;
/// The most ids named in one refusal: an answer's headers are bounded.
const MAX_NAMED: usize = 15;
/// Who has a last answer to fall back on waits this long for a new one, which still comes and counts for the next call.
const PATIENCE: Duration = Duration::from_secs(1);
/// After a question that got no answer, last answers are used for this long without asking again.
const OUTAGE_PAUSE: Duration = Duration::from_secs(1);

/// Why a request may not go on.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum DirectoryError {
    /// A user is unknown, deactivated or deleted.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// User-service gives no answer, and there is no last one to go by.
    #[error("user-service gives no answer")]
    Unavailable(#[source] NoAnswer),
}

/// What user-service says, remembered. Cheap to clone; clones share everything.
#[derive(Debug, Clone)]
pub(crate) struct Directory {
    shared: Arc<State>,
}

#[derive(Debug)]
struct State {
    settings: Settings,
    asker: Asker,
    active_users: ActiveUsers,
    remembered: Cache<UserId, Answer>,
    /// Questions about single users that are under way and may be joined.
    flights: Mutex<HashMap<UserId, (Generation, Flight)>>,
    /// What was told of changes. Never locked together with the flights but inside of them.
    feed: Mutex<Feed>,
    /// When user-service last gave no answer, unless it has given one since.
    silent_since: Mutex<Option<Instant>>,
    counted: DirectoryMetrics,
    lifecycle: Lifecycle,
}

/// A question under way. It belongs to all who wait for it, so none of them ends it by hanging up.
type Flight = Shared<BoxFuture<'static, Result<Answer, NoAnswer>>>;

impl Directory {
    /// Makes a directory that knows nobody yet and connects when it is first asked.
    pub(crate) fn start(settings: Settings, lifecycle: &Lifecycle) -> Self {
        let asker = Asker::new(Peers::start(&settings.address, lifecycle));
        // What is too old to be of any use goes by itself; the rest of the rules on age are the answers' own.
        let lifetime = settings.fresh.max(settings.stale).max(Duration::from_secs(1));
        let remembered = Cache::builder().max_capacity(MAX_REMEMBERED).time_to_live(lifetime).build();
        let state = State {
            settings,
            asker,
            active_users: ActiveUsers::default(),
            remembered,
            flights: Mutex::default(),
            feed: Mutex::default(),
            silent_since: Mutex::default(),
            counted: DirectoryMetrics::new(),
            lifecycle: lifecycle.clone(),
        };
        let directory = Self { shared: Arc::new(state) };
        lifecycle.spawn("user changes", follow::run(directory.clone(), lifecycle.clone()));
        lifecycle.spawn("active users", directory.clone().recheck_active_users(lifecycle.clone()));
        let state = directory.shared.clone();
        metrics::watch(lifecycle, move || {
            state.counted.users.set(state.remembered.entry_count() as f64);
            state.counted.following.set(f64::from(u8::from(lock(&state.feed).is_up(Instant::now()))));
        });
        directory
    }

    /// Makes sure that all of these users are active: who acts, and who is named. Waits no longer than `deadline`.
    ///
    /// # Errors
    /// The refusal names every unknown user; if there is none, every deleted one; else every deactivated one (at most 15).
    pub(crate) async fn check_active(&self, user_ids: &[UserId], deadline: Instant) -> Result<(), DirectoryError> {
        if let [user_id] = user_ids {
            let answer = self.answer(user_id, deadline).await?;
            return judge(&[(user_id, answer.standing)]);
        }
        let answers = self.answers(user_ids, deadline).await?;
        let standing = |id| answers.get(id).map_or(Standing::Unknown, |answer: &Answer| answer.standing);
        judge(&user_ids.iter().map(|id| (id, standing(id))).collect::<Vec<_>>())
    }

    /// One user, by `GetUser`, asked once for all who want to know at the time.
    async fn answer(&self, user_id: &UserId, deadline: Instant) -> Result<Answer, DirectoryError> {
        let state = &self.shared;
        let now = Instant::now();
        let last = state.remembered.get(user_id).await;
        if let Some(last) = last.filter(|last| self.is_fresh(last, now)) {
            state.counted.fresh.increment(1);
            return Ok(last);
        }
        let fallback = last.filter(|last| last.holds(now, &state.settings));
        let outage = lock(&state.silent_since).is_some_and(|since| now < since + OUTAGE_PAUSE);
        if let (Some(last), true) = (fallback, outage) {
            state.counted.last.increment(1);
            return Ok(last);
        }
        let deadline = if fallback.is_some() { deadline.min(now + PATIENCE) } else { deadline };
        let outcome = match timeout_at(TokioInstant::from_std(deadline), self.flight(user_id)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(NoAnswer::Silent { limit: deadline.saturating_duration_since(now) }),
        };
        let counter = match (&outcome, fallback) {
            (Ok(_), _) => &state.counted.asked,
            (Err(_), Some(_)) => &state.counted.last,
            (Err(_), None) => &state.counted.none,
        };
        counter.increment(1);
        outcome.or_else(|silence| fallback.ok_or(DirectoryError::Unavailable(silence)))
    }

    fn is_fresh(&self, answer: &Answer, now: Instant) -> bool {
        let feed = lock(&self.shared.feed);
        !feed.is_uncertain(answer.asked_in) && answer.is_fresh(now, feed.is_up(now), &self.shared.settings)
    }

    /// The flight that asks about this user, begun if there is none that knows of all changes told so far.
    fn flight(&self, user_id: &UserId) -> Flight {
        let mut flights = lock(&self.shared.flights);
        let (asked_in, joinable) = {
            let feed = lock(&self.shared.feed);
            let joinable = flights.get(user_id).filter(|(asked_in, _)| !feed.is_outdated(user_id, *asked_in));
            (feed.generation(), joinable)
        };
        if let Some((_, flight)) = joinable {
            return flight.clone();
        }
        let (directory, id) = (self.clone(), user_id.clone());
        let job = self.shared.lifecycle.spawn_job("ask user-service", async move {
            let outcome = directory.shared.asker.get_user(&id, asked_in).await;
            directory.note(outcome.as_ref().err());
            if let Ok(answer) = &outcome {
                directory.remember(id.clone(), *answer).await;
            }
            // Remembered first: who finds no flight any more finds the answer.
            directory.landed(&id, asked_in);
            outcome
        });
        let (directory, id) = (self.clone(), user_id.clone());
        let flight = async move {
            job.await.unwrap_or_else(|_| {
                directory.landed(&id, asked_in);
                Err(NoAnswer::Lost)
            })
        };
        let flight = flight.boxed().shared();
        flights.insert(user_id.clone(), (asked_in, flight.clone()));
        flight
    }

    /// Ends a flight; one that took its place meanwhile goes on.
    fn landed(&self, user_id: &UserId, asked_in: Generation) {
        let mut flights = lock(&self.shared.flights);
        if flights.get(user_id).is_some_and(|(generation, _)| *generation == asked_in) {
            flights.remove(user_id);
        }
    }

    /// Several users, by `BatchGetUsers` for those of whom there is no fresh answer. One alone goes the way of single users.
    async fn answers(&self, user_ids: &[UserId], deadline: Instant) -> Result<HashMap<UserId, Answer>, DirectoryError> {
        let state = &self.shared;
        let now = Instant::now();
        let (mut answers, mut fallbacks, mut missing) = (HashMap::new(), HashMap::new(), Vec::new());
        for id in user_ids {
            let last = state.remembered.get(id).await;
            match last {
                Some(last) if self.is_fresh(&last, now) => drop(answers.insert(id.clone(), last)),
                last => {
                    missing.push(id.clone());
                    let last = last.filter(|last| last.holds(now, &state.settings));
                    fallbacks.extend(last.map(|last| (id.clone(), last)));
                }
            }
        }
        missing.sort_unstable();
        missing.dedup();
        match missing.as_slice() {
            [] => {}
            [user_id] => drop(answers.insert(user_id.clone(), self.answer(user_id, deadline).await?)),
            missing => match self.ask_all(missing, deadline.saturating_duration_since(now)).await {
                Ok(asked) => answers.extend(asked),
                // All of them or none: a request that names one user nobody knows of cannot go on anyway.
                Err(silence) if fallbacks.len() < missing.len() => return Err(DirectoryError::Unavailable(silence)),
                Err(_) => answers.extend(fallbacks),
            },
        }
        Ok(answers)
    }

    async fn ask_all(&self, user_ids: &[UserId], limit: Duration) -> Result<Vec<(UserId, Answer)>, NoAnswer> {
        let asked_in = lock(&self.shared.feed).generation();
        let questions =
            user_ids.chunks(MAX_BATCH).map(|chunk| self.shared.asker.batch_get_users(chunk, asked_in, limit));
        let outcome = timeout(limit, try_join_all(questions)).await.unwrap_or(Err(NoAnswer::Silent { limit }));
        // A silence may be the fault of a caller in a hurry, and says nothing about user-service.
        let answers: Vec<(UserId, Answer)> = outcome?.into_iter().flatten().collect();
        self.note(None);
        for (id, answer) in &answers {
            self.remember(id.clone(), *answer).await;
        }
        Ok(answers)
    }

    /// The one place where answers are kept. One that was asked for before the one that is there is late, and dropped; so is
    /// one that was asked for before a change that was told of since.
    async fn remember(&self, user_id: UserId, answer: Answer) {
        let id = user_id.clone();
        // Looked at inside: a change forgets the user after it has raised the generation, and the two take turns.
        let keep_newer = |entry: Option<moka::Entry<UserId, Answer>>| {
            let is_late = entry.is_some_and(|entry| entry.value().asked_at > answer.asked_at)
                || lock(&self.shared.feed).is_outdated(&id, answer.asked_in);
            std::future::ready(if is_late { Op::Nop } else { Op::Put(answer) })
        };
        self.shared.remembered.entry(user_id).and_compute_with(keep_newer).await;
    }

    /// Changes are told of from here on; what is remembered is stale, and still the last that was heard.
    fn ready(&self, now: Instant) {
        lock(&self.shared.feed).ready(now);
        self.ask_again_about_all();
    }

    /// A user has changed: what is remembered of it is wrong.
    async fn changed(&self, user_id: UserId, now: Instant) {
        lock(&self.shared.feed).changed(user_id.clone(), now);
        let forget = |_| std::future::ready(Op::Remove);
        self.shared.remembered.entry(user_id.clone()).and_compute_with(forget).await;
        self.ask_again_about(&user_id);
    }

    /// Changes are still told of.
    fn heard(&self, now: Instant) {
        lock(&self.shared.feed).heard(now);
    }

    /// Changes are not told of any more.
    fn lost(&self) {
        lock(&self.shared.feed).lost();
    }

    fn note(&self, silence: Option<&NoAnswer>) {
        let mut since = lock(&self.shared.silent_since);
        // One line for the beginning of an outage and one for its end.
        let was_silent = since.is_some();
        *since = silence.map(|_| Instant::now());
        match silence {
            Some(cause) if !was_silent => {
                tracing::warn!(cause = cause as &dyn std::error::Error, "user-service gives no answer");
            }
            None if was_silent => tracing::info!("user-service answers again"),
            Some(_) | None => {}
        }
    }
}

/// What the standings of all users of a request come to.
fn judge(users: &[(&UserId, Standing)]) -> Result<(), DirectoryError> {
    let who = |wanted: Standing| {
        let matching = users.iter().filter(|(_, standing)| *standing == wanted);
        let user_ids: Vec<UserId> = matching.map(|(id, _)| (*id).clone()).take(MAX_NAMED).collect();
        (!user_ids.is_empty()).then_some(user_ids)
    };
    let refusal = if let Some(user_ids) = who(Standing::Unknown) {
        Refusal::UserNotFound { user_ids }
    } else if let Some(user_ids) = who(Standing::Deleted) {
        Refusal::UserDeleted { user_ids }
    } else if let Some(user_ids) = who(Standing::Deactivated) {
        Refusal::UserDeactivated { user_ids }
    } else {
        return Ok(());
    };
    Err(refusal.into())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
