//! Limits how often one member is shown as typing in one conversation.

use std::time::Duration;

use moka::future::Cache;

use crate::domain::ids::{ConversationId, UserId};

/// A member is announced at most once in this time.
const INTERVAL: Duration = Duration::from_secs(2);

/// The most members that are remembered.
const MAX_ENTRIES: u64 = 100_000;

/// Remembers the members that were announced a moment ago. Cheap to clone; clones share everything.
#[derive(Debug, Clone)]
pub(super) struct TypingLimiter {
    recent: Cache<(ConversationId, UserId), ()>,
}

impl Default for TypingLimiter {
    fn default() -> Self {
        Self { recent: Cache::builder().max_capacity(MAX_ENTRIES).time_to_live(INTERVAL).build() }
    }
}

impl TypingLimiter {
    /// Tells whether this member was announced within the last two seconds.
    pub(super) fn is_limited(&self, conversation_id: &ConversationId, user_id: &UserId) -> bool {
        self.recent.contains_key(&(conversation_id.clone(), user_id.clone()))
    }

    /// Notes that this member is announced now.
    pub(super) async fn note(&self, conversation_id: &ConversationId, user_id: &UserId) {
        self.recent.insert((conversation_id.clone(), user_id.clone()), ()).await;
    }
}
