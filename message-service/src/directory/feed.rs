//! What was told of changes, as far as answers depend on it. Pure: the clock is a parameter.
//!
//! Everything told raises the generation. An answer knows the generation that it was asked for in; whether something was told
//! of its user since is then a matter of numbers, whichever of the two arrived first.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::domain::ids::UserId;

/// Silence for this long, and changes are not told of any more.
pub(super) const MAX_SILENCE: Duration = Duration::from_secs(10);
/// The most users whose changes are known one by one.
const MAX_CHANGED: usize = 4_096;

/// Counts what was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Generation(u64);

/// What was told, and when something was told last.
#[derive(Debug, Default)]
pub(super) struct Feed {
    now: Generation,
    /// Everything asked for before it is uncertain.
    ready_in: Generation,
    /// When each user was told of last, since then.
    changed_in: HashMap<UserId, Generation>,
    /// None while nobody tells of changes.
    heard_at: Option<Instant>,
}

impl Feed {
    /// The generation that a question put now belongs to.
    pub(super) fn generation(&self) -> Generation {
        self.now
    }

    /// Everything answered so far is uncertain, and from here on changes are told of.
    pub(super) fn ready(&mut self, at: Instant) {
        self.begin();
        self.heard_at = Some(at);
    }

    /// A user has changed.
    pub(super) fn changed(&mut self, user_id: UserId, at: Instant) {
        if self.changed_in.len() >= MAX_CHANGED && !self.changed_in.contains_key(&user_id) {
            // Too many to be known one by one: as if all had changed.
            self.begin();
        } else {
            self.now.0 += 1;
        }
        self.changed_in.insert(user_id, self.now);
        self.heard(at);
    }

    /// A sign of life. It counts only after [`ready`](Self::ready).
    pub(super) fn heard(&mut self, at: Instant) {
        self.heard_at = self.heard_at.map(|_| at);
    }

    /// Nobody tells of changes any more.
    pub(super) fn lost(&mut self) {
        self.heard_at = None;
    }

    /// True while changes are told of.
    pub(super) fn is_up(&self, now: Instant) -> bool {
        self.heard_at.is_some_and(|heard_at| now.saturating_duration_since(heard_at) < MAX_SILENCE)
    }

    /// True when everything that was asked for in this generation has become uncertain since.
    pub(super) fn is_uncertain(&self, asked_in: Generation) -> bool {
        asked_in < self.ready_in
    }

    /// True when an answer about this user, asked for in this generation, may be of before a change.
    pub(super) fn is_outdated(&self, user_id: &UserId, asked_in: Generation) -> bool {
        self.is_uncertain(asked_in) || self.changed_in.get(user_id).is_some_and(|changed_in| asked_in < *changed_in)
    }

    fn begin(&mut self) {
        self.now.0 += 1;
        self.ready_in = self.now;
        self.changed_in.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_outdates_what_was_asked_about_that_user_before_it() {
        let (mut feed, now) = (Feed::default(), Instant::now());
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
    fn more_changes_than_can_be_known_outdate_everything_and_never_too_little() {
        let (mut feed, now) = (Feed::default(), Instant::now());
        let first: UserId = "user-0".into();
        let before = feed.generation();
        for number in 0..=MAX_CHANGED {
            feed.changed(format!("user-{number}").as_str().into(), now);
            assert!(feed.is_outdated(&first, before));
        }
        assert!(feed.changed_in.len() <= MAX_CHANGED && feed.is_uncertain(before));
    }

    #[test]
    fn it_is_up_from_ready_on_until_silence_or_loss() {
        let (mut feed, start) = (Feed::default(), Instant::now());
        let after = |secs| start + Duration::from_secs(secs);
        feed.heard(start);
        assert!(!feed.is_up(start));
        feed.ready(start);
        assert!(feed.is_up(after(9)) && !feed.is_up(after(10)));
        feed.heard(after(8));
        assert!(feed.is_up(after(17)) && !feed.is_up(after(18)));
        feed.lost();
        assert!(!feed.is_up(after(8)));
        feed.changed("ann".into(), after(8));
        assert!(!feed.is_up(after(8)));
    }
}
