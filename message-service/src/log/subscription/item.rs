//! The items of a subscription.

use bytes::Bytes;

use crate::{
    domain::{
        ids::ConversationId,
        refusal::Refusal,
        sequence::{Position, Sequence},
    },
    storage::Error,
};

/// One item of a subscription.
#[derive(Debug)]
pub(crate) enum Item {
    /// An entry or an ephemeral, encoded.
    Event(Bytes),
    /// One conversation has caught up with the head that it had when it began.
    CaughtUp { conversation_id: ConversationId, position: Position },
    /// All conversations that the subscription began with have.
    AllCaughtUp,
    /// Entries before this one are no longer kept.
    Truncated { conversation_id: ConversationId, oldest_sequence: Sequence },
    /// No more items of one conversation follow.
    Closed { conversation_id: ConversationId, why: Ending },
    /// The epoch has another name: all positions up to here are good in it.
    EpochRenamed,
    /// No more items follow: the log may have been set back.
    EpochEnded,
}

/// The reason why a conversation has ended for a subscriber.
#[derive(Debug)]
pub(crate) enum Ending {
    Refused(Refusal),
    Failed(Error),
}
