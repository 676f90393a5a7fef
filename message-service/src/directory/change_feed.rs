//! The change notifications of user-service, as far as cached states depend on them. Pure: the clock is a parameter.
//!
//! Every notification raises the generation. A cached state carries the generation of its request, so numbers show if its
//! user has changed since, in whichever order the response and the notification arrived.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::domain::ids::UserId;

/// The feed is down after this long without a notification or heartbeat.
pub(super) const MAX_SILENCE: Duration = Duration::from_secs(10);
/// The most users whose changes are tracked one by one.
const MAX_CHANGED: usize = 4_096;

/// The number of notifications so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Generation(u64);

/// The notifications so far, and the time of the last one.
#[derive(Debug, Default)]
pub(super) struct ChangeFeed {
    generation: Generation,
    /// States requested before this generation may be outdated.
    ready_in: Generation,
    /// The last change of each user since then.
    changed_in: HashMap<UserId, Generation>,
    /// `None` while no notifications arrive.
    received_at: Option<Instant>,
}

impl ChangeFeed {
    /// Returns the generation of a request that is sent now.
    pub(super) fn generation(&self) -> Generation {
        self.generation
    }

    /// Starts the feed: all states so far may be outdated, and every later change is notified.
    pub(super) fn ready(&mut self, at: Instant) {
        self.invalidate_all();
        self.received_at = Some(at);
    }

    /// Records the change of a user.
    pub(super) fn changed(&mut self, user_id: UserId, at: Instant) {
        if self.changed_in.len() >= MAX_CHANGED && !self.changed_in.contains_key(&user_id) {
            // Too many to track, so all users count as changed.
            self.invalidate_all();
        } else {
            self.generation.0 += 1;
        }
        self.changed_in.insert(user_id, self.generation);
        self.heartbeat(at);
    }

    /// Records a sign of life. It counts only after [`ready`](Self::ready).
    pub(super) fn heartbeat(&mut self, at: Instant) {
        self.received_at = self.received_at.map(|_| at);
    }

    /// Stops the feed: no more notifications arrive.
    pub(super) fn disconnected(&mut self) {
        self.received_at = None;
    }

    /// Returns true while notifications arrive.
    pub(super) fn is_up(&self, now: Instant) -> bool {
        self.received_at.is_some_and(|received_at| now.saturating_duration_since(received_at) < MAX_SILENCE)
    }

    /// Returns true if all states requested in this generation may be outdated.
    pub(super) fn is_uncertain(&self, generation: Generation) -> bool {
        generation < self.ready_in
    }

    /// Returns true if the state of this user, requested in this generation, may be outdated.
    pub(super) fn is_outdated(&self, user_id: &UserId, generation: Generation) -> bool {
        self.is_uncertain(generation) || self.changed_in.get(user_id).is_some_and(|changed_in| generation < *changed_in)
    }

    fn invalidate_all(&mut self) {
        self.generation.0 += 1;
        self.ready_in = self.generation;
        self.changed_in.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_outdates_earlier_states_of_that_user_only() {
        let (mut feed, now) = (ChangeFeed::default(), Instant::now());
        let (ann, ben): (UserId, UserId) = ("ann".into(), "ben".into());
        feed.ready(now);
        let before = feed.generation();
        assert!(!feed.is_outdated(&ann, before));
        feed.changed(ann.clone(), now);
        assert!(feed.is_outdated(&ann, before) && !feed.is_outdated(&ben, before) && !feed.is_uncertain(before));
        assert!(!feed.is_outdated(&ann, feed.generation()));
        feed.ready(now);
        assert!(feed.is_outdated(&ben, before) && feed.is_uncertain(before));
        assert!(!feed.is_outdated(&ann, feed.generation()));
    }

    #[test]
    fn more_changes_than_can_be_tracked_outdate_everything_and_never_too_little() {
        let (mut feed, now) = (ChangeFeed::default(), Instant::now());
        let first: UserId = "user-0".into();
        let before = feed.generation();
        for number in 0..=MAX_CHANGED {
            feed.changed(format!("user-{number}").as_str().into(), now);
            assert!(feed.is_outdated(&first, before));
        }
        assert!(feed.changed_in.len() <= MAX_CHANGED && feed.is_uncertain(before));
    }

    #[test]
    fn the_feed_is_up_from_ready_until_silence_or_disconnection() {
        let (mut feed, start) = (ChangeFeed::default(), Instant::now());
        let after = |secs| start + Duration::from_secs(secs);
        feed.heartbeat(start);
        assert!(!feed.is_up(start));
        feed.ready(start);
        assert!(feed.is_up(after(9)) && !feed.is_up(after(10)));
        feed.heartbeat(after(8));
        assert!(feed.is_up(after(17)) && !feed.is_up(after(18)));
        feed.disconnected();
        assert!(!feed.is_up(after(8)));
        feed.changed("ann".into(), after(8));
        assert!(!feed.is_up(after(8)));
    }
}
