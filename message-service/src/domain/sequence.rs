//! Numbers of log entries, and positions between them.

use std::{fmt, num::NonZeroI64};

use service_kit::bounds::OutOfBounds;

/// The number of an entry in its conversation's log: 1, 2, 3, … without a hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Sequence(NonZeroI64);

impl Sequence {
    /// The first entry of every log.
    pub(crate) const FIRST: Self = Self(match NonZeroI64::new(1) {
        Some(one) => one,
        None => unreachable!(),
    });

    /// Returns `None` for anything below 1.
    pub(crate) fn new(number: i64) -> Option<Self> {
        NonZeroI64::new(number).filter(|number| number.get() > 0).map(Self)
    }

    /// Accepts a sequence from a request: 1 or more.
    pub(crate) fn parse(number: i64) -> Result<Self, OutOfBounds> {
        Self::new(number).ok_or(OutOfBounds("must be 1 or more"))
    }

    /// Returns the number.
    pub(crate) fn get(self) -> i64 {
        self.0.get()
    }

    /// Returns the position right before this entry.
    pub(crate) fn before(self) -> Position {
        Position(self.get() - 1)
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// A position in a log: right after the entry with this number, or before the first. The head of a log is the position
/// after its last committed entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Position(i64);

impl Position {
    /// The position before the first entry.
    pub(crate) const START: Self = Self(0);

    /// Returns `None` for anything below 0.
    pub(crate) fn new(number: i64) -> Option<Self> {
        (number >= 0).then_some(Self(number))
    }

    /// Accepts a position from a request: 0 or more.
    pub(crate) fn parse(number: i64) -> Result<Self, OutOfBounds> {
        Self::new(number).ok_or(OutOfBounds("must not be negative"))
    }

    /// Returns the number of the entry before this position, 0 at the start.
    pub(crate) fn get(self) -> i64 {
        self.0
    }

    /// Returns the sequence of the entry after this position.
    pub(crate) fn next(self) -> Sequence {
        Sequence::new(self.0.saturating_add(1)).unwrap_or(Sequence::FIRST)
    }

    /// Returns the number of entries between this position and a later one; 0 if it is not later.
    pub(crate) fn entries_until(self, later: Self) -> i64 {
        (later.0 - self.0).max(0)
    }
}

impl From<Sequence> for Position {
    fn from(sequence: Sequence) -> Self {
        Self(sequence.get())
    }
}

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_between_sequences() {
        assert_eq!(Position::START.next(), Sequence::FIRST);
        assert_eq!(Position::from(Sequence::FIRST).next().get(), 2);
        assert_eq!(Sequence::FIRST.before(), Position::START);
        assert_eq!(Position::START.entries_until(Position::from(Sequence::FIRST)), 1);
        assert_eq!(Position::from(Sequence::FIRST).entries_until(Position::START), 0);
        assert!(Sequence::new(0).is_none() && Sequence::new(-1).is_none() && Position::new(-1).is_none());
    }
}
