//! Read marks: those of many members are moved by one statement.

use sqlx::FromRow;

use super::{Error, Store, members::MemberRow};
use crate::{
    actor::Actor,
    domain::{
        conversation::Member,
        ephemeral::MAX_MEMBERS,
        ids::{ConversationId, UserId},
        sequence::Position,
    },
};

/// The wish of a member to move its read mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReadMark {
    pub(crate) conversation_id: ConversationId,
    pub(crate) user_id: UserId,
    pub(crate) up_to: Position,
}

impl ReadMark {
    /// Creates the wish of an actor.
    pub(crate) fn of(actor: &Actor, conversation_id: &ConversationId, up_to: Position) -> Self {
        Self { conversation_id: conversation_id.clone(), user_id: actor.user_id().clone(), up_to }
    }
}

/// A member whose mark is where it was to be, or beyond.
#[derive(Debug, Clone)]
pub(crate) struct Marked {
    pub(crate) member: Member,
    /// It was moved just now.
    pub(crate) has_moved: bool,
    /// It was moved just now, and the conversation has few enough members for ephemerals to reach all of them.
    pub(crate) has_small_audience: bool,
}

/// The outcome of a read mark.
#[derive(Debug, Clone)]
pub(crate) enum MarkOutcome {
    Marked(Marked),
    NotAMember,
    /// Another transaction holds the member, or has moved its mark in this moment.
    Locked,
}

/// The treatment of members that other transactions hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Locks {
    /// Wait, as long as for any lock. For one mark: two statements that wait could wait for each other.
    Wait,
    /// Leave them out, so that they delay no others.
    Skip,
}

#[derive(Debug, FromRow)]
struct MarkedRow {
    n: i64,
    #[sqlx(flatten)]
    member: MemberRow,
    has_moved: bool,
    has_small_audience: bool,
    is_locked: bool,
}

// A mark is cut to the head, never goes back, and counts the messages up to it: those sent so far, less those after it. Only
// a member whose mark must move is locked; the lock returns its latest version, so it is moved from there although the
// snapshot may show an older one. Reads along `conversations_pkey`, `members_pkey` and `messages_pkey`.
macro_rules! mark_read {
    ($locks:literal) => {
        concat!(
            "
    WITH asked AS (
        SELECT u.n, c.conversation_id, u.user_id, c.message_count, least(u.up_to, c.last_sequence) AS sequence
        FROM unnest($1::text[], $2::text[], $3::bigint[]) WITH ORDINALITY AS u (conversation_id, user_id, up_to, n)
        JOIN parlance_message.conversations AS c ON c.conversation_id = u.conversation_id
    ), held AS (
        SELECT a.n, a.sequence, m.conversation_id, m.user_id
        FROM asked AS a
        JOIN parlance_message.members AS m ON m.conversation_id = a.conversation_id AND m.user_id = a.user_id
        WHERE m.last_read_sequence < a.sequence
        FOR NO KEY UPDATE OF m ",
            $locks,
            "
    ), moved AS (
        UPDATE parlance_message.members AS m
        SET last_read_sequence = h.sequence,
            last_read_ordinal = greatest(m.last_read_ordinal, coalesce((
                SELECT e.ordinal
                FROM parlance_message.messages AS e
                WHERE e.conversation_id = h.conversation_id AND e.sequence <= h.sequence
                ORDER BY e.sequence DESC
                LIMIT 1
            ), 0))
        FROM held AS h
        WHERE m.conversation_id = h.conversation_id AND m.user_id = h.user_id AND m.last_read_sequence < h.sequence
        RETURNING h.n, m.conversation_id, m.last_read_sequence, m.last_read_ordinal
    ), audiences AS (
        SELECT d.conversation_id,
            (
                SELECT count(*) <= $4
                FROM (
                    SELECT FROM parlance_message.members AS m WHERE m.conversation_id = d.conversation_id LIMIT $4 + 1
                ) AS few
            ) AS is_small
        FROM (SELECT DISTINCT conversation_id FROM moved) AS d
    )
    SELECT a.n, m.conversation_id, m.user_id, m.role, m.join_sequence, m.joined_at, a.message_count,
        coalesce(moved.last_read_sequence, m.last_read_sequence) AS last_read_sequence,
        coalesce(moved.last_read_ordinal, m.last_read_ordinal) AS last_read_ordinal,
        moved.n IS NOT NULL AS has_moved,
        coalesce(audiences.is_small, false) AS has_small_audience,
        moved.n IS NULL AND m.last_read_sequence < a.sequence AS is_locked
    FROM asked AS a
    JOIN parlance_message.members AS m ON m.conversation_id = a.conversation_id AND m.user_id = a.user_id
    LEFT JOIN moved ON moved.n = a.n
    LEFT JOIN audiences ON audiences.conversation_id = moved.conversation_id"
        )
    };
}

const MARK_READ: &str = mark_read!("");

const MARK_READ_SKIP_LOCKED: &str = mark_read!("SKIP LOCKED");

impl Store {
    /// Moves read marks, of which no two are of the same member, in one transaction. Each has its own outcome, in their
    /// order. Idempotent.
    ///
    /// # Errors
    /// Nothing was moved, unless [`Error::outcome_is_unknown`]. An outcome is an error if its row is corrupt.
    pub(crate) async fn mark_read(
        &self,
        marks: &[ReadMark],
        locks: Locks,
    ) -> Result<Vec<Result<MarkOutcome, Error>>, Error> {
        debug_assert!(locks == Locks::Skip || marks.len() == 1);
        let statement = match locks {
            Locks::Wait => MARK_READ,
            Locks::Skip => MARK_READ_SKIP_LOCKED,
        };
        let query = sqlx::query_as(statement)
            .bind(marks.iter().map(|mark| &*mark.conversation_id).collect::<Vec<_>>())
            .bind(marks.iter().map(|mark| &*mark.user_id).collect::<Vec<_>>())
            .bind(marks.iter().map(|mark| mark.up_to.get()).collect::<Vec<_>>())
            .bind(MAX_MEMBERS);
        let rows: Vec<MarkedRow> = self.database.fetch_all(query).await?;
        let mut outcomes: Vec<_> = marks.iter().map(|_| Ok(MarkOutcome::NotAMember)).collect();
        for row in rows {
            let outcome = usize::try_from(row.n - 1).ok().and_then(|index| outcomes.get_mut(index));
            let missing = || Error::Corrupt("the statement returned a mark that was not sent".to_owned());
            *outcome.ok_or_else(missing)? = row.into_outcome();
        }
        Ok(outcomes)
    }
}

impl MarkedRow {
    fn into_outcome(self) -> Result<MarkOutcome, Error> {
        if self.is_locked {
            return Ok(MarkOutcome::Locked);
        }
        let Self { has_moved, has_small_audience, .. } = self;
        Ok(MarkOutcome::Marked(Marked { member: self.member.try_into()?, has_moved, has_small_audience }))
    }
}
