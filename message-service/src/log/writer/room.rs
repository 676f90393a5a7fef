//! The room for waiting writes: bounded by bytes, for the process and for each acting user, so that a user with very many
//! writes in flight is refused and others are not.

use std::sync::{Arc, Mutex};

use service_kit::{
    counts::Counts,
    lifecycle::Lifecycle,
    sync::lock,
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
    taken: Arc<Mutex<Taken>>,
    rejected: Counter,
}

#[derive(Debug, Default)]
struct Taken {
    bytes: usize,
    by_user: Counts<UserId>,
}

/// There is no room for a write.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// The waiting writes of all users fill it.
    Queue,
    /// The waiting writes of the acting user fill its share.
    Share,
}

/// A part of the room, given back when this is dropped.
#[derive(Debug)]
pub(crate) struct QueuePermit {
    taken: Arc<Mutex<Taken>>,
    user_id: UserId,
    bytes: usize,
}

impl Room {
    pub(super) fn new() -> Self {
        Self { taken: Arc::default(), rejected: counter!("parlance_writer_rejected_total") }
    }

    /// Starts to measure the bytes of waiting writes.
    pub(super) fn watch(&self, lifecycle: &Lifecycle) {
        gauge!("parlance_writer_waiting_bytes_max").set(MAX_BYTES as f64);
        let (taken, waiting) = (self.taken.clone(), gauge!("parlance_writer_waiting_bytes"));
        watch(lifecycle, move || waiting.set(lock(&taken).bytes as f64));
    }

    /// Takes room for a write of this many bytes.
    ///
    /// # Errors
    /// [`Full`].
    pub(super) fn take(&self, user_id: &UserId, bytes: usize) -> Result<QueuePermit, Full> {
        let bytes = bytes.saturating_add(OVERHEAD_BYTES);
        let taken = lock(&self.taken).take(user_id, bytes);
        taken.inspect_err(|_| self.rejected.increment(1))?;
        Ok(QueuePermit { taken: self.taken.clone(), user_id: user_id.clone(), bytes })
    }
}

impl Taken {
    fn take(&mut self, user_id: &UserId, bytes: usize) -> Result<(), Full> {
        if self.bytes.saturating_add(bytes) > MAX_BYTES {
            return Err(Full::Queue);
        }
        if !self.by_user.add(user_id, bytes, MAX_BYTES_OF_USER) {
            return Err(Full::Share);
        }
        self.bytes += bytes;
        Ok(())
    }

    fn give_back(&mut self, user_id: &UserId, bytes: usize) {
        self.bytes -= bytes;
        self.by_user.take_back(user_id, bytes);
    }
}

impl Drop for QueuePermit {
    fn drop(&mut self) {
        lock(&self.taken).give_back(&self.user_id, self.bytes);
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
        assert!(matches!(room.take(&ann, 0), Err(Full::Share)));
        let mut others: Vec<_> = (0..15)
            .map(|n| room.take(&UserId::from(&*n.to_string()), MAX_BYTES_OF_USER - OVERHEAD_BYTES).unwrap())
            .collect();
        assert!(matches!(room.take(&ben, 0), Err(Full::Queue)));
        others.pop();
        room.take(&ben, 0).unwrap();
        drop((first, others));
        let taken = lock(&room.taken);
        assert!(taken.bytes == 0 && taken.by_user.is_empty());
    }
}
