//! The position at which a subscription starts in a conversation. Pure: storage was read before.

use crate::{
    domain::{
        conversation::Kind,
        ids::{ConversationId, UserId},
        refusal::Refusal,
        sequence::{Position, Sequence},
    },
    planted,
    storage::memberships::MembershipView,
};

/// The start of a conversation for which the subscriber has no position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// After the member's own read mark.
    ReadMark,
    /// At the head.
    Now,
    /// At the first entry that is kept.
    Beginning,
}

/// The position that a client has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Resumption {
    /// The client has everything up to this position.
    pub(crate) after: Position,
    /// What it has is the log up to this position only; beyond it, entries were lost.
    pub(crate) survived: Position,
}

impl Resumption {
    /// Returns the position that the client may keep, if it has one that the log does not have.
    pub(crate) fn ahead_of(self, last_sequence: Position) -> Option<Position> {
        let kept = last_sequence.min(self.survived);
        (self.after > kept).then_some(kept)
    }
}

/// The reason to follow a conversation, and with it the start.
#[derive(Debug, Clone, Copy)]
pub(super) enum Begin {
    /// The client has a position.
    After(Resumption),
    /// The subscription begins with it.
    From(Start),
    /// The user has joined it since the subscription began.
    Joined,
}

/// The log in storage when it was read after the registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) oldest_sequence: Sequence,
    pub(super) last_sequence: Position,
}

/// The start in one conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StartingPoint {
    pub(super) span: Span,
    /// The entry by which the user joined. `None` if reading takes no membership.
    pub(super) join_sequence: Option<Sequence>,
    /// The position to start after, if everything since is kept.
    pub(super) after: Position,
}

impl StartingPoint {
    /// Returns true if entries after the position are no longer kept.
    pub(super) fn is_truncated(&self) -> bool {
        self.after < self.span.oldest_sequence.before()
    }

    /// Returns the position before the first entry to deliver.
    pub(super) fn position(&self) -> Position {
        planted::resume_position(self.after).max(self.span.oldest_sequence.before())
    }
}

/// Returns the start in a conversation, from the user's place in it; `None` if there is nothing to follow.
///
/// # Errors
/// The client named the conversation and may not follow it from that position.
pub(super) fn starting_point(
    conversation_id: &ConversationId,
    user_id: &UserId,
    place: Option<MembershipView>,
    begin: Begin,
) -> Result<Option<StartingPoint>, Refusal> {
    let conversation_id = conversation_id.clone();
    let is_named = matches!(begin, Begin::After(_));
    let not_found = Refusal::ConversationNotFound { conversation_id: conversation_id.clone() };
    let Some(place) = place else {
        return if is_named { Err(not_found) } else { Ok(None) };
    };
    let Some(membership) = place.membership else {
        return match place.kind {
            _ if !is_named => Ok(None),
            Kind::Channel => Err(Refusal::NotAMember { conversation_id, user_id: user_id.clone() }),
            Kind::Direct | Kind::Group => Err(not_found),
        };
    };
    let last_sequence = place.last_sequence;
    let after = match begin {
        Begin::After(resumption) => match resumption.ahead_of(last_sequence) {
            Some(last_sequence) => {
                let sequence = resumption.after;
                return Err(Refusal::SequenceAhead { conversation_id, sequence, last_sequence });
            }
            None => resumption.after,
        },
        Begin::From(Start::ReadMark) => membership.last_read_sequence,
        Begin::From(Start::Now) => last_sequence,
        Begin::From(Start::Beginning) => Position::START,
        Begin::Joined => membership.join_sequence.before(),
    };
    let span = Span { oldest_sequence: place.oldest_sequence, last_sequence };
    Ok(Some(StartingPoint { span, join_sequence: Some(membership.join_sequence), after }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::storage::memberships::Membership;

    fn at(number: i64) -> Position {
        Position::new(number).unwrap()
    }

    fn sequence(number: i64) -> Sequence {
        Sequence::new(number).unwrap()
    }

    /// A log of the entries 3 to 20, with a member that joined by 5 and has read up to 8.
    fn place(kind: Kind, is_member: bool) -> MembershipView {
        let membership = Membership { join_sequence: sequence(5), last_read_sequence: at(8) };
        MembershipView {
            conversation_id: "c".into(),
            kind,
            oldest_sequence: sequence(3),
            last_sequence: at(20),
            membership: is_member.then_some(membership),
        }
    }

    fn after(number: i64) -> Begin {
        Begin::After(Resumption { after: at(number), survived: at(number) })
    }

    fn start(place: Option<MembershipView>, begin: Begin) -> Result<Option<StartingPoint>, Refusal> {
        starting_point(&"c".into(), &"u".into(), place, begin)
    }

    #[test]
    fn a_member_starts_where_it_asks_to() {
        let begins = [
            (after(20), 20),
            (after(7), 7),
            (after(0), 2),
            (Begin::From(Start::ReadMark), 8),
            (Begin::From(Start::Now), 20),
            (Begin::From(Start::Beginning), 2),
            (Begin::Joined, 4),
        ];
        for (begin, expected) in begins {
            let point = start(Some(place(Kind::Group, true)), begin).unwrap().unwrap();
            assert_eq!((point.position(), point.join_sequence), (at(expected), Some(sequence(5))), "{begin:?}");
            assert_eq!(point.is_truncated(), point.after < at(2), "{begin:?}");
        }
    }

    #[test]
    fn a_position_beyond_the_head_is_refused() {
        let refusal = start(Some(place(Kind::Group, true)), after(21)).unwrap_err();
        assert!(matches!(refusal, Refusal::SequenceAhead { sequence, last_sequence, .. }
            if sequence == at(21) && last_sequence == at(20)));
    }

    #[test]
    fn a_position_that_was_lost_is_refused_although_the_head_has_passed_it() {
        let lost = Begin::After(Resumption { after: at(15), survived: at(12) });
        let refusal = start(Some(place(Kind::Group, true)), lost).unwrap_err();
        assert!(matches!(refusal, Refusal::SequenceAhead { sequence, last_sequence, .. }
            if sequence == at(15) && last_sequence == at(12)));
    }

    #[test]
    fn a_group_does_not_show_that_it_exists_to_a_user_who_is_not_a_member() {
        let after = after(0);
        for place in [None, Some(place(Kind::Group, false)), Some(place(Kind::Direct, false))] {
            assert!(matches!(start(place, after), Err(Refusal::ConversationNotFound { .. })));
        }
        assert!(matches!(start(Some(place(Kind::Channel, false)), after), Err(Refusal::NotAMember { .. })));
    }

    #[test]
    fn a_conversation_that_the_client_did_not_name_is_left_out_silently() {
        for begin in [Begin::Joined, Begin::From(Start::Now)] {
            for place in [None, Some(place(Kind::Group, false)), Some(place(Kind::Channel, false))] {
                assert_eq!(start(place, begin), Ok(None));
            }
        }
    }

    proptest! {
        /// The first entry delivered is kept, comes right after the position if that is kept, and never leaves one out.
        #[test]
        fn no_kept_entry_after_the_position_is_left_out(oldest in 1..50i64, more in 0..50i64, after in 0..100i64) {
            let head = oldest + more;
            let after = after.min(head);
            let span = Span { oldest_sequence: sequence(oldest), last_sequence: at(head) };
            let point = StartingPoint { span, join_sequence: None, after: at(after) };
            let first = point.position().next().get();
            prop_assert_eq!(first, (after + 1).max(oldest));
            prop_assert_eq!(point.is_truncated(), first > after + 1);
        }
    }
}
