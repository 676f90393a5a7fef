//! Notifies subscriptions to everything of a user of the conversations that the user joins.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
};

use service_kit::sync::lock;

use super::{
    signals::Signal,
    subscriber_count::{Counted, SubscriberCount},
};
use crate::domain::ids::{ConversationId, UserId};

/// The subscriptions to everything of a user, by user. Cheap to clone; clones share everything.
#[derive(Debug, Clone)]
pub(super) struct MembershipFeed {
    subscribers: Arc<Mutex<Subscribers>>,
    count: SubscriberCount,
}

#[derive(Debug, Default)]
struct Subscribers {
    by_user: HashMap<UserId, HashMap<u64, Arc<Signal>>>,
    next_key: u64,
}

/// The registration of one subscription; dropping it ends the notifications.
#[derive(Debug)]
pub(super) struct FeedRegistration {
    feed: MembershipFeed,
    user_id: UserId,
    key: u64,
    _counted: Counted,
}

impl MembershipFeed {
    /// Creates a feed without subscriptions, which counts them in `count`.
    pub(super) fn new(count: &SubscriberCount) -> Self {
        Self { subscribers: Arc::default(), count: count.clone() }
    }

    /// Registers a subscription. A list of the user's conversations that is read after this misses no join.
    pub(super) fn register(&self, signal: &Arc<Signal>) -> FeedRegistration {
        let user_id = signal.user_id().clone();
        let mut subscribers = self.lock();
        let key = subscribers.next_key;
        subscribers.next_key += 1;
        subscribers.by_user.entry(user_id.clone()).or_default().insert(key, signal.clone());
        drop(subscribers);
        FeedRegistration { feed: self.clone(), user_id, key, _counted: self.count.add() }
    }

    /// Notifies the user's subscriptions that the user may have joined these conversations.
    pub(super) fn notify_joined(&self, user_id: &UserId, conversation_ids: &[ConversationId]) {
        for signal in self.lock().by_user.get(user_id).into_iter().flat_map(HashMap::values) {
            signal.joined(conversation_ids);
        }
    }

    /// Returns every user with a subscription.
    pub(super) fn user_ids(&self) -> Vec<UserId> {
        self.lock().by_user.keys().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Subscribers> {
        lock(&self.subscribers)
    }
}

impl Drop for FeedRegistration {
    fn drop(&mut self) {
        let mut subscribers = self.feed.lock();
        if let Some(signals) = subscribers.by_user.get_mut(&self.user_id) {
            signals.remove(&self.key);
            if signals.is_empty() {
                subscribers.by_user.remove(&self.user_id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_users_own_subscriptions_are_notified_until_they_are_dropped() {
        let count = SubscriberCount::default();
        let feed = MembershipFeed::new(&count);
        let signals = ["ann", "ann", "ben"].map(|user_id| Arc::new(Signal::new(user_id.into())));
        let registrations = signals.each_ref().map(|signal| feed.register(signal));
        feed.notify_joined(&"ann".into(), &["c".into()]);
        assert_eq!(signals.each_ref().map(|signal| signal.take().joined.len()), [1, 1, 0]);
        assert!(count.is_any() && feed.user_ids().len() == 2);
        drop(registrations);
        feed.notify_joined(&"ann".into(), &["c".into()]);
        assert!(signals.iter().all(|signal| signal.take().joined.is_empty()));
        assert!(!count.is_any() && feed.user_ids().is_empty());
    }
}
