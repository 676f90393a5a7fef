//! Bugs on purpose, one at a time, which the stories prove to be found. They exist in builds with the feature `planted-bugs`
//! only, and are chosen by `PARLANCE_PLANTED_BUG`; in all others each question is answered no before it is compiled.

/// What is wrong.
#[cfg_attr(not(feature = "planted-bugs"), expect(dead_code, reason = "some are made in such builds only"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// A batch is answered before it is committed.
    AckBeforeCommit,
    /// A batch is told to those who follow before it is committed.
    PublishBeforeCommit,
    /// Whoever comes back goes on one entry too late.
    ResumeOffByOne,
    /// A batch that failed is answered as if it had not.
    SwallowedError,
    /// What another replica tells is taken without a look at what it continues.
    HintTrusted,
    /// The outbox is read by the number of the last transaction seen.
    OutboxByNumber,
    /// The sends of a batch are stored from the last to the first.
    BatchReversed,
}

/// Whether this is the bug that was asked for.
#[cfg(not(feature = "planted-bugs"))]
pub(crate) const fn is(_: Bug) -> bool {
    false
}

/// Whether this is the bug that was asked for.
#[cfg(feature = "planted-bugs")]
pub(crate) fn is(bug: Bug) -> bool {
    static CHOSEN: std::sync::LazyLock<Option<Bug>> = std::sync::LazyLock::new(|| {
        let name = std::env::var("PARLANCE_PLANTED_BUG").unwrap_or_default();
        let all = [
            Bug::AckBeforeCommit,
            Bug::PublishBeforeCommit,
            Bug::ResumeOffByOne,
            Bug::SwallowedError,
            Bug::HintTrusted,
            Bug::OutboxByNumber,
            Bug::BatchReversed,
        ];
        let chosen = all.into_iter().find(|bug| format!("{bug:?}") == name);
        assert!(chosen.is_some() || name.is_empty(), "PARLANCE_PLANTED_BUG is {name}; there are {all:?}");
        chosen
    });
    *CHOSEN == Some(bug)
}

/// [`Bug::OutboxByNumber`]: the outbox is read from a position that takes open transactions for finished ones.
#[cfg(feature = "planted-bugs")]
pub(crate) fn outbox_position(
    position: &service_kit::database::outbox::Position,
) -> std::borrow::Cow<'_, service_kit::database::outbox::Position> {
    use std::borrow::Cow;
    if is(Bug::OutboxByNumber) {
        Cow::Owned(position.clone().ignoring_open_transactions())
    } else {
        Cow::Borrowed(position)
    }
}

/// Returns the position as it is.
#[cfg(not(feature = "planted-bugs"))]
pub(crate) fn outbox_position(
    position: &service_kit::database::outbox::Position,
) -> std::borrow::Cow<'_, service_kit::database::outbox::Position> {
    std::borrow::Cow::Borrowed(position)
}
