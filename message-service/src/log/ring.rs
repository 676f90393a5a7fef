//! The head of one conversation and a ring of its latest entries, as a value: no lock, no clock, no notification.
//!
//! Laws: the entries are dense; the last of them is at the head; the cost of all that are in counts against the budget;
//! the ring returns only entries that come right after a position. An entry that does not continue the head empties the
//! ring, so it never holds a message that was edited or deleted after it was added. Storage decides about the head: a read
//! that began after a head was known and does not reach it sets the head back.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::{
    domain::{
        encoded::EncodedEntry,
        sequence::{Position, Sequence},
    },
    planted,
};

/// The most bytes of one ring.
const MAX_RING_BYTES: usize = 256 * 1024;

/// The bytes that a ring keeps of entries that are not new any more.
const MAX_OLD_BYTES: usize = 16 * 1024;

/// The bytes that all rings of the process share. Cheap to clone; clones share the account.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    used: Arc<AtomicUsize>,
    max: usize,
}

impl Budget {
    /// Creates a budget of `max` bytes.
    pub(super) fn new(max: usize) -> Self {
        Self { used: Arc::default(), max }
    }

    /// Returns the bytes in use.
    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Returns the bytes that may be in use.
    pub(super) fn max(&self) -> usize {
        self.max
    }

    /// Returns true if so much is in use that rings should be emptied before others find no room.
    pub(super) fn is_scarce(&self) -> bool {
        self.used() > self.max / 8 * 7
    }

    /// Returns true if there is room again.
    pub(super) fn is_ample(&self) -> bool {
        self.used() <= self.max / 4 * 3
    }

    /// Takes bytes; returns the excess over the budget.
    fn take(&self, bytes: usize) -> usize {
        (self.used.fetch_add(bytes, Ordering::Relaxed) + bytes).saturating_sub(self.max)
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The head and the latest entries of one conversation.
#[derive(Debug)]
pub(super) struct Ring {
    /// The last position known to be committed; `None` until one is known.
    head: Option<Position>,
    entries: VecDeque<EncodedEntry>,
    bytes: usize,
    /// Entries up to here are old.
    old: Option<Sequence>,
    budget: Budget,
}

/// The effect of a commit on a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Advance {
    /// The head stays: the commit was known.
    Unmoved,
    /// The head moved, and the new entries are in the ring.
    Appended,
    /// The head moved past entries that the ring does not have.
    Jumped,
}

/// The entries were not taken: there is a gap between the head and the first of them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Gap;

/// The part of a log after a position.
#[derive(Debug)]
pub(super) enum Ahead {
    /// These entries come next.
    Entries(Vec<EncodedEntry>),
    /// There are entries after the position, but the ring does not reach back to it.
    InStorage,
    /// Nothing is known after the position.
    Nothing,
    /// The log was set back to before the position: entries up to it were lost.
    SetBack(Position),
}

impl Ring {
    /// Creates an empty ring that knows no head.
    pub(super) fn new(budget: Budget) -> Self {
        Self { head: None, entries: VecDeque::new(), bytes: 0, old: None, budget }
    }

    /// Returns the head, if it is known.
    pub(super) fn head(&self) -> Option<Position> {
        self.head
    }

    /// Returns true while no entry is in the ring.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Moves the head after a commit of this replica; `entries` are those of the commit that are known, in order.
    pub(super) fn append_committed(&mut self, head: Position, entries: Vec<EncodedEntry>) -> Advance {
        match self.head {
            Some(known) if head <= known => Advance::Unmoved,
            Some(known) if spans(&entries, known, head) => self.append(head, entries),
            _ => self.jump(head),
        }
    }

    /// Appends the entries of another replica that continue the head; entries at or below the head are known already.
    ///
    /// # Errors
    /// [`Gap`]: storage must be read.
    pub(super) fn append_from_replica(&mut self, mut entries: Vec<EncodedEntry>) -> Result<Advance, Gap> {
        entries.retain(|entry| self.head.is_none_or(|head| Position::from(entry.sequence) > head));
        let ends = entries.first().zip(entries.last()).map(|(first, last)| (first.sequence, last.sequence));
        match ends {
            None => Ok(Advance::Unmoved),
            Some((first, last)) if self.continues(first) => Ok(self.append(last.into(), entries)),
            Some(_) => Err(Gap),
        }
    }

    /// Moves the head to one read from storage, unless a later one is known.
    pub(super) fn advance(&mut self, head: Position) -> Advance {
        if self.head.is_none_or(|known| head > known) { self.jump(head) } else { Advance::Unmoved }
    }

    /// Moves the head to one read from storage, forward or back. `known` is the head before the read began: storage that does
    /// not reach it has lost entries, or they were never there.
    pub(super) fn settle(&mut self, head: Position, known: Option<Position>) -> Advance {
        if known.is_some_and(|known| head < known) { self.jump(head) } else { self.advance(head) }
    }

    /// Puts back a page read from storage, if it is the newest part of the log and the ring is empty, so that other
    /// subscribers need not read it again. Returns true if it did.
    pub(super) fn refill(&mut self, page: &[EncodedEntry]) -> bool {
        let fits =
            self.entries.is_empty() && page.last().is_some_and(|last| self.head == Some(Position::from(last.sequence)));
        if fits {
            self.push(page.to_vec());
        }
        fits
    }

    /// Returns the entries after a position, of about `max_bytes` at most, but always one if the ring has it.
    pub(super) fn after(&self, position: Position, max_bytes: usize) -> Ahead {
        match self.head {
            Some(head) if position > head => return Ahead::SetBack(head),
            Some(head) if position < head => {}
            _ => return Ahead::Nothing,
        }
        let Some(first) = self.entries.front().map(|entry| entry.sequence).filter(|first| *first <= position.next())
        else {
            return Ahead::InStorage;
        };
        let mut bytes = 0;
        let next = self.entries.range(first.before().entries_until(position) as usize..);
        let entries = next.take_while(|entry| {
            let fits = bytes < max_bytes;
            bytes += entry.bytes.len();
            fits
        });
        Ahead::Entries(entries.cloned().collect())
    }

    /// Removes entries that were old before, but for some bytes of them, and makes all others old: called at an interval, the
    /// ring reaches back at least that long. Subscribers that keep up need no more.
    pub(super) fn age(&mut self) {
        let mut freed = 0;
        while self.bytes - freed > MAX_OLD_BYTES
            && let Some(oldest) = self.entries.pop_front_if(|entry| self.old.is_some_and(|old| entry.sequence <= old))
        {
            freed += oldest.cost();
        }
        self.give_back(freed);
        self.old = self.entries.back().map(|entry| entry.sequence);
    }

    /// Removes all entries; the head stays.
    pub(super) fn clear(&mut self) {
        self.give_back(self.bytes);
        self.entries = VecDeque::new();
        self.old = None;
    }

    fn give_back(&mut self, bytes: usize) {
        self.bytes -= bytes;
        self.budget.give_back(bytes);
    }

    fn continues(&self, first: Sequence) -> bool {
        planted::hint_trusted() || self.head.is_some_and(|head| first == head.next())
    }

    fn append(&mut self, head: Position, entries: Vec<EncodedEntry>) -> Advance {
        self.head = Some(head);
        self.push(entries);
        Advance::Appended
    }

    fn jump(&mut self, head: Position) -> Advance {
        self.head = Some(head);
        self.clear();
        Advance::Jumped
    }

    /// Adds entries at the back, and removes from the front those that exceed the bounds.
    fn push(&mut self, entries: Vec<EncodedEntry>) {
        let added: usize = entries.iter().map(EncodedEntry::cost).sum();
        self.entries.extend(entries);
        self.bytes += added;
        let excess = self.budget.take(added).max(self.bytes.saturating_sub(MAX_RING_BYTES));
        let mut freed = 0;
        while freed < excess
            && let Some(oldest) = self.entries.pop_front()
        {
            freed += oldest.cost();
        }
        self.give_back(freed);
        debug_assert!(planted::is_on() || self.is_dense());
    }

    /// Checks that the first entry is as far before the head as there are entries; their order was checked when each
    /// was added.
    fn is_dense(&self) -> bool {
        let ends = self.entries.front().zip(self.entries.back()).zip(self.head);
        ends.is_none_or(|((first, last), head)| {
            let count = first.sequence.before().entries_until(head);
            Position::from(last.sequence) == head && count == self.entries.len() as i64
        })
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Returns true if the entries are those after `known` up to `head`.
fn spans(entries: &[EncodedEntry], known: Position, head: Position) -> bool {
    entries.first().is_some_and(|first| first.sequence == known.next())
        && entries.last().is_some_and(|last| Position::from(last.sequence) == head)
        && entries.len() as i64 == known.entries_until(head)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn at(number: i64) -> Position {
        Position::new(number).unwrap()
    }

    fn entries(sequences: impl Iterator<Item = i64>) -> Vec<EncodedEntry> {
        let entry = |number: i64| EncodedEntry {
            sequence: Sequence::new(number).unwrap(),
            bytes: Bytes::from(number.to_string().repeat(50)),
            ends_membership_of: None,
        };
        sequences.map(entry).collect()
    }

    fn ring(max_bytes: usize) -> (Ring, Budget) {
        let budget = Budget::new(max_bytes);
        (Ring::new(budget.clone()), budget)
    }

    /// The events of a ring, in any order: batches that continue the head, batches after a gap (another replica wrote),
    /// repeats, entries of another replica, heads read from storage, changes, pages put back, and a reader.
    #[derive(Debug, Clone)]
    enum Step {
        Commit { gap: i64, count: i64 },
        Replica { gap: i64, known: i64, count: i64 },
        Change,
        Repeat,
        Advance(i64),
        Refill(i64),
        Age,
        Read,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0..3i64, 1..6i64).prop_map(|(gap, count)| Step::Commit { gap: gap.max(1) - 1, count }),
            (0..2i64, 0..3i64, 1..6i64).prop_map(|(gap, known, count)| Step::Replica { gap, known, count }),
            Just(Step::Change),
            Just(Step::Repeat),
            (0..3i64).prop_map(Step::Advance),
            (1..9i64).prop_map(Step::Refill),
            Just(Step::Age),
            Just(Step::Read),
        ];
        prop::collection::vec(step, 1..60)
    }

    proptest! {
        /// The ring returns only entries that come right after the position, in order and without a hole, a reader that
        /// reads storage when the ring asks for it arrives at the head, and the budget holds.
        #[test]
        fn a_reader_never_sees_a_hole(steps in steps(), max_bytes in 0..4000usize) {
            let (mut ring, budget) = ring(max_bytes);
            let (mut committed, mut position) = (0, 0);
            ring.advance(at(0));
            for step in steps {
                let before = committed;
                match step {
                    Step::Commit { gap, count } => {
                        committed += gap + count;
                        let advance = ring.append_committed(at(committed), entries(before + gap + 1..=committed));
                        prop_assert_eq!(advance, if gap == 0 { Advance::Appended } else { Advance::Jumped });
                    }
                    Step::Replica { gap: 0, known, count } => {
                        committed += count;
                        let first = (before - known + 1).max(1);
                        prop_assert_eq!(ring.append_from_replica(entries(first..=committed)), Ok(Advance::Appended));
                    }
                    Step::Replica { gap, count, .. } => {
                        let first = before + gap + 1;
                        prop_assert_eq!(ring.append_from_replica(entries(first..first + count)), Err(Gap));
                    }
                    Step::Change => {
                        committed += 1;
                        prop_assert_eq!(ring.append_committed(at(committed), Vec::new()), Advance::Jumped);
                    }
                    Step::Repeat => {
                        let again = entries(committed.max(1)..=committed);
                        prop_assert_eq!(ring.append_committed(at(committed), again.clone()), Advance::Unmoved);
                        prop_assert_eq!(ring.append_from_replica(again), Ok(Advance::Unmoved));
                    }
                    Step::Advance(more) => {
                        committed += more;
                        ring.advance(at(committed));
                    }
                    Step::Refill(count) => {
                        ring.refill(&entries((committed - count + 1).max(1)..=committed));
                    }
                    Step::Age => ring.age(),
                    Step::Read => while position < committed {
                        match ring.after(at(position), 300) {
                            Ahead::Entries(next) => for entry in next {
                                prop_assert_eq!(entry.sequence.get(), position + 1);
                                position += 1;
                            },
                            Ahead::InStorage => position += 1,
                            other => prop_assert!(false, "{:?} at {} of {}", other, position, committed),
                        }
                    },
                }
                prop_assert_eq!(ring.head(), Some(at(committed)));
                prop_assert!(ring.is_dense() && budget.used() <= max_bytes);
                prop_assert_eq!(budget.used(), ring.entries.iter().map(EncodedEntry::cost).sum::<usize>());
            }
            drop(ring);
            prop_assert_eq!(budget.used(), 0);
        }
    }

    #[test]
    fn storage_decides_about_the_head() {
        let (mut ring, budget) = ring(4_000);
        ring.advance(at(0));
        ring.append_committed(at(5), entries(1..=5));
        // The read began before the last commit was known.
        assert_eq!(ring.settle(at(4), Some(at(4))), Advance::Unmoved);
        assert_eq!((ring.settle(at(3), Some(at(5))), ring.head()), (Advance::Jumped, Some(at(3))));
        assert_eq!(budget.used(), 0, "lost entries are not delivered");
        assert!(matches!(ring.after(at(5), 300), Ahead::SetBack(head) if head == at(3)));
        assert!(matches!(ring.after(at(3), 300), Ahead::Nothing));
        assert_eq!(ring.settle(at(9), Some(at(3))), Advance::Jumped);
    }

    #[test]
    fn the_oldest_entries_make_room_and_one_ring_never_exceeds_its_bound() {
        let (mut ring, budget) = ring(usize::MAX);
        ring.advance(at(0));
        ring.append_committed(at(10_000), entries(1..=10_000));
        assert!(budget.used() <= MAX_RING_BYTES && budget.used() > MAX_RING_BYTES / 2);
        assert!(matches!(ring.after(at(0), 300), Ahead::InStorage));
        assert!(matches!(ring.after(at(9_999), 1), Ahead::Entries(next) if next.len() == 1));
        assert!(matches!(ring.after(at(10_000), 300), Ahead::Nothing));
    }

    #[test]
    fn entries_of_a_replica_are_not_taken_while_no_head_is_known() {
        let (mut ring, _budget) = ring(4000);
        assert_eq!(ring.append_from_replica(entries(1..=2)), Err(Gap));
        assert_eq!(ring.head(), None);
    }
}
