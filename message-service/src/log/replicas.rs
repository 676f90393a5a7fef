//! What other replicas commit, and what was committed here without an answer: read from the outbox while anybody follows,
//! at once when the bus says so and every 250 ms anyway.
//!
//! A poll asks for what the snapshot of the poll before could not see, so it misses nothing, however late a transaction
//! commits. Where no poll before can be built upon, the heads of all that is followed are read instead, and what the users
//! are in who subscribe to everything.

use std::time::{Duration, Instant};

use service_kit::lifecycle::Lifecycle;

use super::live::LiveLogs;
use crate::{
    bus::Exchange,
    domain::ids::{ConversationId, UserId},
    metrics::OutboxMetrics,
    storage::{Error, Store, outbox::Seen},
};

const POLL_EVERY: Duration = Duration::from_millis(250);

/// The least time between polls, however often the bus says so.
const LEAST_PAUSE: Duration = Duration::from_millis(5);

/// A poll that is older than this part of what rows of the outbox are kept for is not built upon.
const MAX_AGE: f64 = 0.4;

/// All heads are read again this often, whatever the polls say.
const REREAD_EVERY: Duration = Duration::from_mins(1);

/// The most heads read at a time.
const MAX_READ: usize = 1000;

/// The most users whose conversations are listed at a time.
const MAX_LISTED: usize = 50;

/// Moves the heads of live logs until the lifecycle is closing. Rows of the outbox are kept for `retention`, by all replicas.
pub(crate) async fn follow(
    store: Store,
    live: LiveLogs,
    exchange: Exchange,
    retention: Duration,
    lifecycle: Lifecycle,
) {
    let mut poller = Poller {
        store,
        live,
        max_age: retention.mul_f64(MAX_AGE),
        last: None,
        heads_to_reread: Vec::new(),
        users_to_reread: Vec::new(),
        reread_at: Instant::now(),
        counted: OutboxMetrics::new(),
    };
    let work = async {
        let mut is_failing = false;
        loop {
            poller.wait_for_followers().await;
            let began = Instant::now();
            let outcome = poller.poll().await;
            poller.count(began, outcome.is_ok());
            if let Err(error) = outcome {
                if !is_failing {
                    tracing::warn!(cause = &error as &dyn std::error::Error, "the outbox cannot be read");
                }
                is_failing = true;
                tokio::time::sleep(POLL_EVERY.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
                continue;
            }
            is_failing = false;
            // At most half of the time is spent on reading.
            let pause = began.elapsed().clamp(LEAST_PAUSE, POLL_EVERY);
            tokio::time::sleep(pause).await;
            // Whether something was said or not makes no difference to what comes next.
            let _ = tokio::time::timeout(POLL_EVERY.saturating_sub(pause), exchange.poll_requested()).await;
        }
    };
    lifecycle.closing().run_until_cancelled(work).await;
}

struct Poller {
    store: Store,
    live: LiveLogs,
    max_age: Duration,
    /// What the last good poll saw, and when it was sent.
    last: Option<(Instant, Seen)>,
    /// Conversations whose heads are still to be read again.
    heads_to_reread: Vec<ConversationId>,
    /// Users whose conversations are still to be listed again.
    users_to_reread: Vec<UserId>,
    /// When all of both are to be read again.
    reread_at: Instant,
    counted: OutboxMetrics,
}

impl Poller {
    /// While nobody follows there is nothing to read, and no poll to build upon afterwards.
    async fn wait_for_followers(&mut self) {
        if !self.live.is_followed() {
            self.last = None;
            self.live.followed().await;
        }
    }

    fn count(&self, began: Instant, is_good: bool) {
        if is_good {
            self.counted.seconds.record(began.elapsed());
            self.counted.age.set(0.0);
        } else {
            self.counted.failures.increment(1);
            self.counted.age.set(self.last.as_ref().map_or(0.0, |(sent, _)| sent.elapsed().as_secs_f64()));
        }
    }

    async fn poll(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        let last =
            self.last.as_ref().filter(|(sent, _)| now.duration_since(*sent) < self.max_age).map(|(_, seen)| seen);
        let news = self.store.read_outbox(last).await?;
        for (id, head) in &news.heads {
            self.live.advance_head_of(id, *head);
        }
        for joins in &news.joins {
            for user_id in &joins.user_ids {
                self.live.joined(user_id, &joins.conversation_ids);
            }
        }
        if news.is_whole && last.is_some_and(|last| news.seen.continues(last)) {
            self.counted.continued.increment(1);
            self.reread(now).await?;
        } else {
            self.counted.reread.increment(1);
            // Read after the new snapshot was taken, so that what is committed later is found by the next poll. Whoever begins
            // to follow later reads the head itself.
            for ids in self.live.conversation_ids().chunks(MAX_READ) {
                self.read_heads(ids).await?;
            }
            for ids in self.live.user_ids().chunks(MAX_LISTED) {
                self.list_conversations(ids).await?;
            }
            self.heads_to_reread.clear();
            self.users_to_reread.clear();
            self.reread_at = now + REREAD_EVERY;
        }
        self.last = Some((now, news.seen));
        Ok(())
    }

    /// Reads one slice of the heads and one of the users, if it is time to.
    async fn reread(&mut self, now: Instant) -> Result<(), Error> {
        if now >= self.reread_at {
            self.reread_at = now + REREAD_EVERY;
            self.heads_to_reread = self.live.conversation_ids();
            self.users_to_reread = self.live.user_ids();
        }
        let rest = self.heads_to_reread.len().saturating_sub(MAX_READ);
        self.read_heads(&self.heads_to_reread[rest..]).await?;
        self.heads_to_reread.truncate(rest);
        let rest = self.users_to_reread.len().saturating_sub(MAX_LISTED);
        self.list_conversations(&self.users_to_reread[rest..]).await?;
        self.users_to_reread.truncate(rest);
        Ok(())
    }

    async fn list_conversations(&self, user_ids: &[UserId]) -> Result<(), Error> {
        if user_ids.is_empty() {
            return Ok(());
        }
        for (user_id, conversation_ids) in &self.store.list_conversations_of(user_ids).await? {
            self.live.joined(user_id, conversation_ids);
        }
        Ok(())
    }

    async fn read_heads(&self, ids: &[ConversationId]) -> Result<(), Error> {
        if ids.is_empty() {
            return Ok(());
        }
        for (id, head) in &self.store.find_heads(ids).await? {
            self.live.advance_head_of(id, *head);
        }
        Ok(())
    }
}
