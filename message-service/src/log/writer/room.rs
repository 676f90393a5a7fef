//! The room for waiting writes: bounded by bytes, for the process and for each acting user, so that a user with very many
//! writes in flight is refused and others are not.

use service_kit::{
    bounded::{Bounded, Full, Part},
    lifecycle::Lifecycle,
    telemetry::metrics::{Counter, counter, gauge, watch},
};

use crate::domain::ids::UserId;

/// The most bytes of all waiting writes, overhead included.
const MAX_BYTES: usize = 32 * 1024 * 1024;

/// The most of them of one acting user: some 120 messages of the greatest size, thousands of ordinary ones.
const MAX_BYTES_OF_USER: usize = MAX_BYTES / 16;

/// The bytes of a waiting write beside its content.
const OVERHEAD_BYTES: usize = 512;

/// The room of this process. Cheap to clone; clones share it.
#[derive(Debug, Clone)]
pub(super) struct Room {
    waiting: Bounded<UserId>,
    rejected: Counter,
}

/// A part of the room, given back when this is dropped.
pub(crate) type QueuePermit = Part<UserId>;

impl Room {
    pub(super) fn new() -> Self {
        Self {
            waiting: Bounded::new(MAX_BYTES, MAX_BYTES_OF_USER),
            rejected: counter!("parlance_writer_rejected_total"),
        }
    }

    /// Starts to measure the bytes of waiting writes.
    pub(super) fn watch(&self, lifecycle: &Lifecycle) {
        gauge!("parlance_writer_waiting_bytes_max").set(MAX_BYTES as f64);
        let (waiting, bytes) = (self.waiting.clone(), gauge!("parlance_writer_waiting_bytes"));
        watch(lifecycle, move || bytes.set(waiting.used() as f64));
    }

    /// Takes room for a write of this many bytes.
    ///
    /// # Errors
    /// [`Full`].
    pub(super) fn take(&self, user_id: &UserId, bytes: usize) -> Result<QueuePermit, Full> {
        let permit = self.waiting.take(user_id, bytes.saturating_add(OVERHEAD_BYTES));
        permit.inspect_err(|_| self.rejected.increment(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_a_share_and_all_users_have_the_whole() {
        let room = Room::new();
        let (ann, ben) = ("ann".into(), "ben".into());
        let first = room.take(&ann, MAX_BYTES_OF_USER - OVERHEAD_BYTES).unwrap();
        assert!(matches!(room.take(&ann, 0), Err(Full::Key)));
        let mut others: Vec<_> = (0..15)
            .map(|n| room.take(&UserId::from(&*n.to_string()), MAX_BYTES_OF_USER - OVERHEAD_BYTES).unwrap())
            .collect();
        assert!(matches!(room.take(&ben, 0), Err(Full::All)));
        others.pop();
        room.take(&ben, 0).unwrap();
        drop((first, others));
        assert_eq!(room.waiting.used(), 0);
    }
}
