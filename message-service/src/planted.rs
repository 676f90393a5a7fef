//! Bugs on purpose, one at a time, which the stories must find. They exist in builds with the feature `planted-bugs` only,
//! and `PARLANCE_PLANTED_BUG` selects one; in all other builds each fail point compiles to nothing.

use service_kit::database::outbox::Position as OutboxPosition;

use crate::domain::sequence::Position;

/// A planted bug.
#[cfg_attr(not(feature = "planted-bugs"), expect(dead_code, reason = "constructed with the feature only"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// A batch is answered before it is committed.
    AckBeforeCommit,
    /// A batch is delivered to subscribers before it is committed.
    PublishBeforeCommit,
    /// A subscriber that resumes starts one entry too late.
    ResumeOffByOne,
    /// A batch that failed is answered as stored.
    SwallowedError,
    /// Entries of another replica are taken without a check that they continue the head.
    HintTrusted,
    /// A head that storage does not have is taken as read.
    HeadBelieved,
    /// The outbox is read by the number of the last transaction seen.
    OutboxByNumber,
    /// The sends of a batch are stored from the last to the first.
    BatchReversed,
}

/// Returns true if this bug is selected.
#[cfg(not(feature = "planted-bugs"))]
pub(crate) const fn is(_: Bug) -> bool {
    false
}

/// Returns true if this bug is selected.
#[cfg(feature = "planted-bugs")]
pub(crate) fn is(bug: Bug) -> bool {
    selected() == Some(bug)
}

/// Returns true if a bug is selected: invariants do not hold then.
#[cfg(not(feature = "planted-bugs"))]
pub(crate) const fn is_on() -> bool {
    false
}

/// Returns true if a bug is selected: invariants do not hold then.
#[cfg(feature = "planted-bugs")]
pub(crate) fn is_on() -> bool {
    selected().is_some()
}

#[cfg(feature = "planted-bugs")]
fn selected() -> Option<Bug> {
    static SELECTED: std::sync::LazyLock<Option<Bug>> = std::sync::LazyLock::new(|| {
        let name = std::env::var("PARLANCE_PLANTED_BUG").unwrap_or_default();
        let all = [
            Bug::AckBeforeCommit,
            Bug::PublishBeforeCommit,
            Bug::ResumeOffByOne,
            Bug::SwallowedError,
            Bug::HintTrusted,
            Bug::HeadBelieved,
            Bug::OutboxByNumber,
            Bug::BatchReversed,
        ];
        let selected = all.into_iter().find(|bug| format!("{bug:?}") == name);
        assert!(selected.is_some() || name.is_empty(), "PARLANCE_PLANTED_BUG is {name}; known are {all:?}");
        selected
    });
    *SELECTED
}

/// [`Bug::OutboxByNumber`]: returns a position that takes open transactions for finished ones.
pub(crate) fn outbox_position(position: &OutboxPosition) -> Option<OutboxPosition> {
    is(Bug::OutboxByNumber).then(|| position.clone().ignoring_open_transactions())
}

/// [`Bug::BatchReversed`]: reverses the sends of a batch.
pub(crate) fn batch_order<T>(sends: &mut [T]) {
    if is(Bug::BatchReversed) {
        sends.reverse();
    }
}

/// [`Bug::ResumeOffByOne`]: returns the position after the one to resume from.
pub(crate) fn resume_position(after: Position) -> Position {
    if is(Bug::ResumeOffByOne) && after > Position::START { after.next().into() } else { after }
}

/// [`Bug::HintTrusted`]: returns true for every hint.
pub(crate) fn hint_trusted() -> bool {
    is(Bug::HintTrusted)
}

/// [`Bug::HeadBelieved`]: moves a position to the reported head if storage returned no entries up to it.
pub(crate) fn believe_head<T>(position: &mut Position, entries: &[T], head: Option<Position>) {
    if is(Bug::HeadBelieved) && entries.is_empty() {
        *position = head.map_or(*position, |head| head.max(*position));
    }
}

/// [`Bug::AckBeforeCommit`] and [`Bug::PublishBeforeCommit`]: commits the batch before, if it was left open, and begins a
/// transaction that stays open after this one.
macro_rules! leave_open {
    ($connection:expr) => {
        #[cfg(feature = "planted-bugs")]
        if $crate::planted::is($crate::planted::Bug::AckBeforeCommit)
            || $crate::planted::is($crate::planted::Bug::PublishBeforeCommit)
        {
            $connection.run("COMMIT; BEGIN").await?;
        }
    };
}

/// [`Bug::PublishBeforeCommit`]: publishes, waits and commits.
macro_rules! publish_early {
    ($storer:expr, $batch:expr, $appended:expr) => {
        #[cfg(feature = "planted-bugs")]
        if $crate::planted::is($crate::planted::Bug::PublishBeforeCommit) {
            $storer.publish($batch, $appended);
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            $storer.connection.run("COMMIT").await?;
        }
    };
}

/// [`Bug::SwallowedError`]: returns the answers of a batch that was stored.
macro_rules! swallow_error {
    ($batch:expr) => {
        #[cfg(feature = "planted-bugs")]
        if $crate::planted::is($crate::planted::Bug::SwallowedError) {
            let pretended = $batch.pretend_stored();
            return Attempted::Answered($batch.answer(&pretended));
        }
    };
}

pub(crate) use {leave_open, publish_early, swallow_error};
