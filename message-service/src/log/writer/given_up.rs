//! The order of one sender's sends to one conversation when some of them fail: a send that was queued behind one that its
//! caller will repeat must fail, too, or it would be stored first.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
    time::Instant,
};

use service_kit::sync::lock;

use super::work::{MAX_WAIT, Sender, Stamps, Work, WriteError, sender_of};

/// The most senders that are known one by one; beyond it all sends that were queued before then fail.
const MAX_SENDERS: usize = 8192;

/// The sends that one writer gave up as retryable, until those that were queued behind them have an answer. Cheap to
/// clone: the writer and its lane share it.
#[derive(Debug, Clone, Default)]
pub(super) struct GivenUp {
    stamps: Stamps,
    shared: Arc<Mutex<Known>>,
}

/// The sends of a sender that was given up, by the stamps of the queue.
#[derive(Debug, Clone)]
struct Range {
    /// The first that was given up.
    from: u64,
    /// The end of the queue when the last was given up.
    until: u64,
    error: WriteError,
    /// The time from which no send of the range can wait any more.
    over_at: Instant,
}

/// The ranges that are known, under their lock.
#[derive(Debug, Default)]
pub(super) struct Known {
    senders: HashMap<Sender, Range>,
    everybody: Option<Range>,
}

impl GivenUp {
    /// Creates an empty one, whose queue stamps its writes with `stamps`.
    pub(super) fn new(stamps: &Stamps) -> Self {
        Self { stamps: stamps.clone(), shared: Arc::default() }
    }

    /// Locks what is known, for a look at many sends.
    pub(super) fn lock(&self) -> MutexGuard<'_, Known> {
        lock(&self.shared)
    }

    /// Gives a send up: all that its sender has queued behind it until now must fail with the same error. To be called
    /// before the send is answered, so that its repeat is queued after this.
    pub(super) fn give_up(&self, known: &mut Known, sender: Sender, from: u64, error: &WriteError, now: Instant) {
        let range = Range { from, until: self.stamps.next(), error: error.clone(), over_at: now + MAX_WAIT };
        known.add(sender, range, now);
    }

    /// Answers those of the waiting sends that are behind one that was given up.
    pub(super) fn refuse(&self, waiting: &mut VecDeque<Work>, now: Instant) {
        let mut known = self.lock();
        known.forget(now);
        if known.is_empty() {
            return;
        }
        for work in std::mem::take(waiting) {
            match work {
                Work::Send(send, waiter) => match known.error_of(&sender_of(&send), waiter.stamp) {
                    Some(error) => waiter.answer(Err(error)),
                    None => waiting.push_back(Work::Send(send, waiter)),
                },
                Work::Change(..) => waiting.push_back(work),
            }
        }
    }
}

impl Known {
    pub(super) fn is_empty(&self) -> bool {
        self.senders.is_empty() && self.everybody.is_none()
    }

    /// Returns the error of a send that is behind one that was given up.
    pub(super) fn error_of(&self, sender: &Sender, stamp: u64) -> Option<WriteError> {
        let range = self.senders.get(sender).filter(|range| range.has(stamp));
        let range = range.or_else(|| self.everybody.as_ref().filter(|range| range.has(stamp)));
        range.map(|range| range.error.clone())
    }

    fn add(&mut self, sender: Sender, range: Range, now: Instant) {
        if let Some(same) = self.senders.get_mut(&sender) {
            *same = same.joined_with(range);
            return;
        }
        if self.senders.len() >= MAX_SENDERS {
            self.forget(now);
        }
        if self.senders.len() >= MAX_SENDERS {
            let all = self.senders.drain().map(|(_, range)| range).chain(self.everybody.take());
            self.everybody = Some(all.fold(range, |joined, range| range.joined_with(joined)));
        } else {
            self.senders.insert(sender, range);
        }
    }

    /// Forgets the ranges of which nothing can wait any more.
    fn forget(&mut self, now: Instant) {
        self.senders.retain(|_, range| range.over_at > now);
        self.everybody.take_if(|range| range.over_at <= now);
    }
}

impl Range {
    fn has(&self, stamp: u64) -> bool {
        (self.from..self.until).contains(&stamp)
    }

    fn joined_with(&self, other: Self) -> Self {
        Self {
            from: self.from.min(other.from),
            until: self.until.max(other.until),
            over_at: self.over_at.max(other.over_at),
            error: other.error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::writer::work::samples::now;

    fn sender(n: usize) -> Sender {
        ("c".into(), n.to_string().as_str().into())
    }

    #[test]
    fn only_sends_behind_one_that_was_given_up_fail() {
        let stamps = Stamps::default();
        assert_eq!((0..5).map(|_| stamps.take()).max(), Some(4));
        let (given_up, now) = (GivenUp::new(&stamps), now());
        let mut known = given_up.lock();
        given_up.give_up(&mut known, sender(1), 2, &WriteError::Busy, now);
        let fails = |known: &Known, of, stamp| known.error_of(&sender(of), stamp).is_some();
        assert_eq!((0..7).filter(|stamp| fails(&known, 1, *stamp)).collect::<Vec<_>>(), [2, 3, 4]);
        assert!(!fails(&known, 2, 3));
        known.forget(now + MAX_WAIT / 2);
        assert!(fails(&known, 1, 3));
        known.forget(now + MAX_WAIT);
        assert!(known.is_empty());
    }

    #[test]
    fn beyond_the_bound_all_that_waits_fails() {
        let stamps = Stamps::default();
        let (given_up, now) = (GivenUp::new(&stamps), now());
        let mut known = given_up.lock();
        for n in 0..=MAX_SENDERS {
            given_up.give_up(&mut known, sender(n), stamps.take(), &WriteError::Busy, now);
        }
        assert!(known.senders.is_empty() && known.everybody.is_some());
        assert!(known.error_of(&sender(MAX_SENDERS + 1), stamps.next() - 1).is_some());
        assert!(known.error_of(&sender(0), stamps.next()).is_none());
    }
}
