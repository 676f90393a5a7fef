//! The verdict on a batch that failed as a whole.

use crate::storage::Error;

/// The next step after an error of the whole batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Run it again after a pause: the connection was lost, or the transaction lost against another.
    Rerun,
    /// Run it again after a pause: it is a single item that was too slow.
    RerunSlow,
    /// Run it again at once without waiting for locks.
    SkipLocked,
    /// Give all of it to the lane of locked conversations.
    GiveBack,
    /// Run its halves: something in it is refused, too slow or locked, and the rest must not fail with it.
    Halve,
    /// Fail it: running it again would fail again.
    Fail,
}

/// The run that failed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    /// It did not wait for locked conversations.
    pub(super) skip_locked: bool,
    /// It ran in the lane of locked conversations, which has one conversation at a time.
    pub(super) in_lane: bool,
    /// The number of sends and changes.
    pub(super) items: usize,
}

impl Verdict {
    /// Returns the verdict on an error.
    pub(super) fn of(error: &Error, run: Run) -> Self {
        match error {
            Error::NotConnected(_) | Error::Unavailable(_) | Error::Serialization(_) => Self::Rerun,
            Error::LockTimeout(_) if !run.skip_locked => Self::SkipLocked,
            // A row other than a conversation's. Outside the lane each half would cost another wait for the lock.
            Error::LockTimeout(_) if !run.in_lane || run.items == 1 => Self::GiveBack,
            // More work than the time allows, or data that cannot be stored.
            Error::LockTimeout(_) | Error::Timeout { .. } | Error::Data(_) | Error::Conflict { .. }
                if run.items > 1 =>
            {
                Self::Halve
            }
            Error::Timeout { .. } => Self::RerunSlow,
            Error::LockTimeout(_) | Error::Data(_) | Error::Conflict { .. } | Error::Corrupt(_) | Error::Driver(_) => {
                Self::Fail
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MANY: Run = Run { skip_locked: false, in_lane: false, items: 10 };
    const ONE: Run = Run { items: 1, ..MANY };
    const MANY_IN_LANE: Run = Run { skip_locked: true, in_lane: true, items: 10 };
    const ONE_IN_LANE: Run = Run { items: 1, ..MANY_IN_LANE };

    /// An error of each variant.
    fn errors() -> [(&'static str, Error); 9] {
        let source = || sqlx::Error::WorkerCrashed;
        [
            ("not connected", Error::NotConnected(source())),
            ("unavailable", Error::Unavailable(source())),
            ("serialization", Error::Serialization(source())),
            ("lock", Error::LockTimeout(source())),
            ("slow", Error::Timeout { limit: Duration::from_secs(1) }),
            ("data", Error::Data(source())),
            ("conflict", Error::Conflict { constraint: "c".to_owned(), source: source() }),
            ("corrupt", Error::Corrupt("c".to_owned())),
            ("driver", Error::Driver(source())),
        ]
    }

    fn assert_verdicts(run: Run, expected: [Verdict; 9]) {
        for ((name, error), expected) in errors().into_iter().zip(expected) {
            assert_eq!(Verdict::of(&error, run), expected, "{name} of {run:?}");
        }
    }

    #[test]
    fn only_data_time_and_locks_split_a_batch() {
        use Verdict::{Fail, GiveBack, Halve, Rerun, RerunSlow, SkipLocked};
        assert_verdicts(MANY, [Rerun, Rerun, Rerun, SkipLocked, Halve, Halve, Halve, Fail, Fail]);
        assert_verdicts(ONE, [Rerun, Rerun, Rerun, SkipLocked, RerunSlow, Fail, Fail, Fail, Fail]);
        assert_verdicts(MANY_IN_LANE, [Rerun, Rerun, Rerun, Halve, Halve, Halve, Halve, Fail, Fail]);
        assert_verdicts(ONE_IN_LANE, [Rerun, Rerun, Rerun, GiveBack, RerunSlow, Fail, Fail, Fail, Fail]);
        let without_waiting = Run { skip_locked: true, ..MANY };
        assert_verdicts(without_waiting, [Rerun, Rerun, Rerun, GiveBack, Halve, Halve, Halve, Fail, Fail]);
    }

    #[test]
    fn a_single_item_is_never_halved() {
        for (name, error) in errors() {
            for run in [ONE, ONE_IN_LANE, Run { skip_locked: true, ..ONE }] {
                assert_ne!(Verdict::of(&error, run), Verdict::Halve, "{name} of {run:?}");
            }
        }
    }
}
