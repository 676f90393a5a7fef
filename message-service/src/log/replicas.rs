//! Polls the outbox for commits of other replicas, and for commits of this one whose outcome was unknown: while there are
//! subscribers, at once after a hint of the bus and every 250 ms anyway.
//!
//! A poll reads the rows that the snapshot of the last poll could not see, so it misses nothing, however late a
//! transaction commits. If it cannot continue from the last poll, it reads the heads of all followed conversations
//! instead, and then the conversations of the users with subscriptions to everything, page by page.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use service_kit::{
    backoff::jittered, causes::causes, database::outbox::Position as OutboxPosition, lifecycle::Lifecycle,
};

use super::{clock::Clock, live::LiveLogs, metrics::OutboxMetrics, new_messages};
use crate::{
    bus::Exchange,
    domain::{
        epoch::Epoch,
        ids::{ConversationId, UserId},
        sequence::Position,
    },
    storage::{
        Error, Store,
        outbox::{CommitReader, Committed},
    },
};

const POLL_EVERY: Duration = Duration::from_millis(250);

/// The least time between polls, however many hints arrive.
const LEAST_PAUSE: Duration = Duration::from_millis(5);

/// All heads are read again this often, whatever the polls find.
const REREAD_EVERY: Duration = Duration::from_mins(1);

/// The most heads read at a time.
const MAX_READ: usize = 1000;

/// The most users whose conversations are listed at a time, and the most conversations of each.
const MAX_LISTED: usize = 50;
const MAX_LISTED_OF_EACH: usize = 500;

/// Moves the heads of live logs until the lifecycle is closing. Rows of the outbox are kept for `retention`, by all replicas.
pub(crate) async fn follow(
    store: Store,
    live: LiveLogs,
    exchange: Exchange,
    retention: Duration,
    lifecycle: Lifecycle,
) {
    let mut poller = Poller {
        commits: store.commits(retention),
        store,
        clock: live.clock().clone(),
        reread_at: live.clock().now(),
        live,
        last: None,
        heads_to_reread: Vec::new(),
        users_to_reread: Vec::new(),
        is_listing_urgent: false,
        metrics: OutboxMetrics::new(),
    };
    let work = async {
        let mut is_failing = false;
        loop {
            poller.wait_for_subscribers().await;
            let began = poller.clock.now();
            let outcome = poller.poll().await;
            poller.count(began, outcome.is_ok());
            match outcome {
                Ok(true) => is_failing = false,
                Ok(false) => {
                    // The rest is read soon, but not at the expense of everything else.
                    is_failing = false;
                    tokio::time::sleep(LEAST_PAUSE).await;
                    continue;
                }
                Err(error) => {
                    if !is_failing {
                        tracing::warn!(cause = causes(&error), "the outbox cannot be read");
                    }
                    is_failing = true;
                    tokio::time::sleep(jittered(POLL_EVERY, 0.75..1.25)).await;
                    continue;
                }
            }
            // At most half of the time is spent on reading.
            let pause = poller.clock.now().duration_since(began).clamp(LEAST_PAUSE, POLL_EVERY);
            tokio::time::sleep(pause).await;
            // With or without a hint, the next step is a poll.
            let _ = tokio::time::timeout(POLL_EVERY.saturating_sub(pause), exchange.poll_requested()).await;
        }
    };
    lifecycle.closing().run_until_cancelled(work).await;
}

struct Poller {
    commits: CommitReader,
    store: Store,
    live: LiveLogs,
    clock: Clock,
    /// The last successful poll: when it began, and its position. `None` before the first, and while there are no
    /// subscribers.
    last: Option<(Instant, OutboxPosition)>,
    /// Conversations whose heads remain to be read again.
    heads_to_reread: Vec<ConversationId>,
    /// Users whose conversations remain to be listed again, each after the given one.
    users_to_reread: Vec<(UserId, Option<ConversationId>)>,
    /// The users are listed because of a gap, so soon.
    is_listing_urgent: bool,
    /// The time when all of both are due again.
    reread_at: Instant,
    metrics: OutboxMetrics,
}

impl Poller {
    /// Waits while there are no subscribers; the next poll cannot continue from the last one then.
    async fn wait_for_subscribers(&mut self) {
        if !self.live.is_followed() {
            self.last = None;
            self.live.wait_for_subscribers().await;
        }
    }

    fn count(&self, began: Instant, is_good: bool) {
        if is_good {
            self.metrics.seconds.record(self.clock.now().duration_since(began));
            self.metrics.age.set(0.0);
        } else {
            self.metrics.failures.increment(1);
            let age =
                self.last.as_ref().map_or(Duration::ZERO, |(read_at, _)| self.clock.now().duration_since(*read_at));
            self.metrics.age.set(age.as_secs_f64());
        }
    }

    /// Polls once. Returns true if nothing was left to read.
    async fn poll(&mut self) -> Result<bool, Error> {
        let now = self.clock.now();
        let read = self.commits.read(self.last.as_ref().map(|(_, position)| position)).await?;
        if let Some(committed) = &read.batch {
            self.metrics.continued.increment(1);
            self.deliver(committed).await;
        } else {
            self.metrics.reread.increment(1);
            self.enter_epoch(&read.position).await?;
            self.reread_all(now).await?;
        }
        self.last = Some((now, read.position));
        if let Err(error) = self.reread(now).await {
            // It is a safety net, and what remains is read again after the next poll.
            tracing::debug!(cause = causes(&error), "heads and memberships cannot be read again");
            return Ok(read.is_whole);
        }
        Ok(read.is_whole && !self.is_listing_urgent)
    }

    /// Enters the epoch of a server that may be another one, or one that was set back. Streams go on if everything survived
    /// that they may have been given.
    async fn enter_epoch(&self, read_at: &OutboxPosition) -> Result<(), Error> {
        let before = self.live.epoch_name();
        if let (Some(before), Some((_, last))) = (&before, &self.last)
            && last.is_later_than(read_at)
        {
            self.store.leave_epoch(before).await?;
        }
        let epoch = self.store.enter_epoch().await?;
        if let Some(before) = before.filter(|before| *before != epoch)
            && let Some(survived) = self.find_unharmed(&before).await?
            && self.live.continue_in(&epoch, &survived)
        {
            return Ok(());
        }
        self.live.enter(&epoch);
        Ok(())
    }

    /// Returns the heads of all followed conversations, if all of them survived since an epoch.
    async fn find_unharmed(&self, since: &Epoch) -> Result<Option<HashMap<ConversationId, Position>>, Error> {
        let heads = self.live.heads();
        let positions: Vec<_> = heads.iter().map(|(id, head)| (id, *head)).collect();
        for positions in positions.chunks(MAX_READ) {
            let surviving = self.store.find_surviving(since, positions).await?;
            if surviving.iter().any(|(id, position)| heads.get(id) != Some(position)) {
                return Ok(None);
            }
        }
        Ok(Some(heads))
    }

    async fn deliver(&self, committed: &Committed) {
        for joins in &committed.joins {
            for user_id in &joins.user_ids {
                self.live.notify_joined(user_id, &joins.conversation_ids);
            }
        }
        new_messages::advance(&self.store, &self.live, &committed.heads).await;
    }

    /// Reads all heads that matter here, after the snapshot of the poll was taken: what is committed later is found by the next
    /// poll, and a new subscription reads its heads itself. The memberships follow.
    async fn reread_all(&mut self, now: Instant) -> Result<(), Error> {
        for ids in self.live.conversation_ids().chunks(MAX_READ) {
            self.read_heads(ids).await?;
        }
        self.heads_to_reread.clear();
        self.list_all_users();
        self.is_listing_urgent = true;
        self.reread_at = now + REREAD_EVERY;
        Ok(())
    }

    fn list_all_users(&mut self) {
        self.users_to_reread = self.live.user_ids().into_iter().map(|user_id| (user_id, None)).collect();
    }

    /// Reads one slice of the heads and one of the memberships that remain; starts over when it is time to, once all are
    /// listed.
    async fn reread(&mut self, now: Instant) -> Result<(), Error> {
        if now >= self.reread_at {
            self.reread_at = now + REREAD_EVERY;
            self.heads_to_reread = self.live.conversation_ids();
            if self.users_to_reread.is_empty() {
                self.list_all_users();
            }
        }
        let rest = self.heads_to_reread.len().saturating_sub(MAX_READ);
        self.read_heads(&self.heads_to_reread[rest..]).await?;
        self.heads_to_reread.truncate(rest);
        self.list_conversations().await
    }

    /// Lists a page of the conversations of some users. A user with more is listed again from there.
    async fn list_conversations(&mut self) -> Result<(), Error> {
        let rest = self.users_to_reread.len().saturating_sub(MAX_LISTED);
        if !self.users_to_reread.is_empty() {
            let listed = self.store.list_conversations_of(&self.users_to_reread[rest..], MAX_LISTED_OF_EACH).await?;
            self.users_to_reread.truncate(rest);
            for (user_id, conversation_ids) in listed {
                self.live.notify_joined(&user_id, &conversation_ids);
                if conversation_ids.len() == MAX_LISTED_OF_EACH {
                    self.users_to_reread.push((user_id, conversation_ids.last().cloned()));
                }
            }
        }
        self.is_listing_urgent &= !self.users_to_reread.is_empty();
        Ok(())
    }

    async fn read_heads(&self, ids: &[ConversationId]) -> Result<(), Error> {
        if ids.is_empty() {
            return Ok(());
        }
        let known: Vec<Option<Position>> = ids.iter().map(|id| self.live.head_of(id)).collect();
        let heads: HashMap<ConversationId, Position> = self.store.find_heads(ids).await?.into_iter().collect();
        for (id, known) in ids.iter().zip(known) {
            self.live.settle_head_of(id, heads.get(id).copied().unwrap_or(Position::START), known);
        }
        Ok(())
    }
}
