//! Everything that is stored, read in slices for a check (`verify/`): by keyset along primary keys, over one connection that
//! can change nothing.
//!
//! Each slice is a snapshot of its own that is over in milliseconds, so a check of a large and busy database keeps neither
//! vacuum nor anybody else waiting. That is enough: whatever is compared with each other is read within one slice, or never
//! changes once it is committed (the sequence, the ordinal and the time of an entry). No row is locked.

use std::{fmt::Display, time::Duration};

use service_kit::{
    database::{Settings, VersionError, bounded, check_version},
    verify::Finding,
};
use sqlx::{Connection, Executor, PgConnection, postgres::PgArguments, query::QueryAs};
use time::OffsetDateTime;

use super::{Error, migrations};
use crate::domain::change::EntryKind;

/// The longest that one slice may take, unless the service is given more.
const PATIENCE: Duration = Duration::from_mins(1);

/// Read only, whatever happens; not in the way of a migration for longer than a slice; and in the order of primary keys, since
/// statistics of a table that has just been restored are no guide.
const SESSION: &str = "
    SET default_transaction_read_only = on;
    SET lock_timeout = '10s';
    SET enable_seqscan = off;
    SET enable_bitmapscan = off;
    SET enable_hashjoin = off;
    SET enable_mergejoin = off;
    SET enable_sort = off;
    SET enable_incremental_sort = off;
    SET max_parallel_workers_per_gather = 0;
    SET jit = off";

/// Of the rows of a slice, this part may be conversations: most have more entries than that, and what the slice cannot go on to
/// is read again.
const CONVERSATIONS_OF_SLICE: u32 = 10;

/// Sorts behind everything that is left of a conversation.
const END: i64 = i64::MAX;

/// A place in the order of all entries: behind this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) conversation_id: String,
    /// [`END`] behind all of the conversation.
    sequence: i64,
}

impl Place {
    /// Before everything that there can be, or before one conversation.
    pub(crate) fn before(conversation_id: Option<&str>) -> Self {
        match conversation_id {
            Some(id) => Self { conversation_id: id.to_owned(), sequence: i64::MIN },
            None => Self { conversation_id: String::new(), sequence: END },
        }
    }
}

/// A part of all conversations and their entries, in one snapshot.
#[derive(Debug)]
pub(crate) struct Slice {
    /// In the order of their ids. Also those without entries, as far as the slice goes.
    pub(crate) conversations: Vec<ConversationRow>,
    /// In the order of ids and sequences. Also those of conversations that do not exist.
    pub(crate) entries: Vec<EntryRow>,
    /// The last entry's conversation may go on in the next slice.
    pub(crate) is_cut: bool,
    /// Where the next slice begins, unless this is the last.
    pub(crate) next: Option<Place>,
}

/// A conversation's counters, and what its members are like.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct ConversationRow {
    pub(crate) conversation_id: String,
    pub(crate) kind: i16,
    pub(crate) version: i64,
    pub(crate) oldest_sequence: i64,
    pub(crate) last_sequence: i64,
    pub(crate) message_count: i64,
    pub(crate) last_message_sequence: i64,
    pub(crate) last_message_at: Option<OffsetDateTime>,
    pub(crate) last_entry_at: OffsetDateTime,
    pub(crate) has_owner: bool,
    /// Not counted beyond three.
    pub(crate) members: i64,
}

/// An entry of a log, with what it refers to.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct EntryRow {
    pub(crate) conversation_id: String,
    pub(crate) sequence: i64,
    /// 0 for a message, else as in `changes.kind`.
    pub(crate) kind: i16,
    pub(crate) created_at: OffsetDateTime,
    pub(crate) ordinal: Option<i64>,
    pub(crate) change_sequence: Option<i64>,
    pub(crate) is_edited: Option<bool>,
    pub(crate) is_deleted: Option<bool>,
    /// Of a message: what it answers, and whether that is a message.
    pub(crate) reply_to_sequence: Option<i64>,
    pub(crate) reply_is_message: Option<bool>,
    /// Of a message that was changed: the entry that is said to have done it.
    pub(crate) changed_by_kind: Option<i16>,
    pub(crate) changed_by_target: Option<i64>,
    /// Of an edit or a deletion: the message, and the entry that is said to have changed it last.
    pub(crate) target_sequence: Option<i64>,
    pub(crate) target_change_sequence: Option<i64>,
    /// Of a member's leaving: who, and when it joined if it is one.
    pub(crate) user_id: Option<String>,
    pub(crate) member_join_sequence: Option<i64>,
    pub(crate) version: Option<i64>,
    /// Of the last update of a conversation: whether title, description, avatar and attributes are those of the
    /// conversation.
    pub(crate) is_current_state: Option<bool>,
}

impl EntryRow {
    /// Returns a finding about this entry.
    pub(crate) fn finding(&self, expected: impl Display, found: impl Display) -> Finding {
        Finding::new(expected, found).at("conversation_id", &*self.conversation_id).at("sequence", self.sequence)
    }
}

/// A member, with what its row refers to.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct MemberRow {
    pub(crate) conversation_id: String,
    pub(crate) user_id: String,
    pub(crate) join_sequence: i64,
    pub(crate) last_read_sequence: i64,
    pub(crate) last_read_ordinal: i64,
    /// None if there is no such conversation.
    pub(crate) last_sequence: Option<i64>,
    pub(crate) oldest_sequence: Option<i64>,
    /// Who joined by the entry that is said to be the join.
    pub(crate) joined_user_id: Option<String>,
    /// The ordinal of the last message up to the read mark.
    pub(crate) ordinal_at_mark: Option<i64>,
}

/// A row of the outbox for one of its conversations.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct OutboxRow {
    pub(crate) outbox_id: i64,
    pub(crate) conversation_id: Option<String>,
    pub(crate) head: Option<i64>,
    /// None if there is no such conversation.
    pub(crate) last_sequence: Option<i64>,
}

/// A request that made a conversation which does not exist.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct RequestRow {
    pub(crate) creator_id: String,
    pub(crate) request_id: String,
    pub(crate) conversation_id: String,
    pub(crate) is_orphan: bool,
}

const CONVERSATIONS: &str = "
    SELECT c.conversation_id, c.kind, c.version, c.oldest_sequence, c.last_sequence, c.message_count, c.last_message_sequence,
        c.last_message_at, c.last_entry_at,
        EXISTS (
            SELECT FROM parlance_message.members AS o WHERE o.conversation_id = c.conversation_id AND o.role = 1
        ) AS has_owner,
        (
            SELECT count(*)
            FROM (
                SELECT FROM parlance_message.members AS m WHERE m.conversation_id = c.conversation_id LIMIT 3
            ) AS few
        ) AS members
    FROM parlance_message.conversations AS c
    WHERE c.conversation_id >= $1 AND ($2::text IS NULL OR c.conversation_id <= $2)
    ORDER BY c.conversation_id
    LIMIT $3";

// Cut first and joined then, so that the joins are as many look-ups as the slice has rows. $5 to $7 are kinds of
// entries: those that change a message, a member that left, and an update of the conversation. An entry without `detail` is
// from a time when a conversation had a title only.
const ENTRIES: &str = "
    WITH sent AS MATERIALIZED (
        SELECT m.conversation_id, m.sequence, m.ordinal, m.change_sequence, m.reply_to_sequence, m.created_at,
            m.edited_at IS NOT NULL AS is_edited, m.deleted_at IS NOT NULL AS is_deleted
        FROM parlance_message.messages AS m
        WHERE (m.conversation_id, m.sequence) > ($1, $2) AND ($3::text IS NULL OR m.conversation_id <= $3)
        ORDER BY m.conversation_id, m.sequence
        LIMIT $4
    ), changed AS MATERIALIZED (
        SELECT c.conversation_id, c.sequence, c.kind, c.target_sequence, c.user_id, c.title, c.version, c.detail,
            c.created_at
        FROM parlance_message.changes AS c
        WHERE (c.conversation_id, c.sequence) > ($1, $2) AND ($3::text IS NULL OR c.conversation_id <= $3)
        ORDER BY c.conversation_id, c.sequence
        LIMIT $4
    )
    SELECT s.conversation_id, s.sequence, 0::smallint AS kind, s.created_at, s.ordinal, s.change_sequence, s.is_edited,
        s.is_deleted, s.reply_to_sequence, r.sequence IS NOT NULL AS reply_is_message, d.kind AS changed_by_kind,
        d.target_sequence AS changed_by_target, NULL::bigint AS target_sequence, NULL::bigint AS target_change_sequence,
        NULL::text AS user_id, NULL::bigint AS member_join_sequence, NULL::bigint AS version,
        NULL::boolean AS is_current_state
    FROM sent AS s
    LEFT JOIN parlance_message.messages AS r
        ON r.conversation_id = s.conversation_id AND r.sequence = s.reply_to_sequence
    LEFT JOIN parlance_message.changes AS d
        ON s.change_sequence <> s.sequence AND d.conversation_id = s.conversation_id AND d.sequence = s.change_sequence
    UNION ALL
    SELECT c.conversation_id, c.sequence, c.kind, c.created_at, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
        c.target_sequence, t.change_sequence, c.user_id, m.join_sequence, c.version,
        CASE WHEN v.version IS NOT NULL THEN
            c.title = v.title
            AND coalesce(c.detail, jsonb_build_object('description', '', 'avatar_url', '', 'attributes', '{}'::jsonb))
                = jsonb_build_object(
                    'description', v.description, 'avatar_url', v.avatar_url, 'attributes', coalesce(v.attributes, '{}')
                )
        END
    FROM changed AS c
    LEFT JOIN parlance_message.messages AS t
        ON c.kind = ANY($5) AND t.conversation_id = c.conversation_id AND t.sequence = c.target_sequence
    LEFT JOIN parlance_message.members AS m
        ON c.kind = $6 AND m.conversation_id = c.conversation_id AND m.user_id = c.user_id
    LEFT JOIN parlance_message.conversations AS v
        ON c.kind = $7 AND v.conversation_id = c.conversation_id AND v.version = c.version
    ORDER BY conversation_id, sequence, kind
    LIMIT $4";

// $5 is the kind of entry by which members join.
const MEMBERS: &str = "
    WITH slice AS MATERIALIZED (
        SELECT m.conversation_id, m.user_id, m.join_sequence, m.last_read_sequence, m.last_read_ordinal
        FROM parlance_message.members AS m
        WHERE (m.conversation_id, m.user_id) > ($1, $2) AND ($3::text IS NULL OR m.conversation_id <= $3)
        ORDER BY m.conversation_id, m.user_id
        LIMIT $4
    )
    SELECT s.conversation_id, s.user_id, s.join_sequence, s.last_read_sequence, s.last_read_ordinal, c.last_sequence,
        c.oldest_sequence, j.user_id AS joined_user_id, e.ordinal AS ordinal_at_mark
    FROM slice AS s
    LEFT JOIN parlance_message.conversations AS c ON c.conversation_id = s.conversation_id
    LEFT JOIN parlance_message.changes AS j
        ON j.kind = $5 AND j.conversation_id = s.conversation_id AND j.sequence = s.join_sequence
    LEFT JOIN LATERAL (
        SELECT m.ordinal
        FROM parlance_message.messages AS m
        WHERE m.conversation_id = s.conversation_id AND m.sequence <= s.last_read_sequence
        ORDER BY m.sequence DESC
        LIMIT 1
    ) AS e ON true
    ORDER BY s.conversation_id, s.user_id";

const OUTBOX: &str = "
    WITH slice AS MATERIALIZED (
        SELECT o.outbox_id, o.conversation_ids, o.last_sequences
        FROM parlance_message.outbox AS o
        WHERE o.outbox_id > $1
        ORDER BY o.outbox_id
        LIMIT $2
    )
    SELECT s.outbox_id, u.conversation_id, u.head, c.last_sequence
    FROM slice AS s
    LEFT JOIN LATERAL unnest(s.conversation_ids, s.last_sequences) AS u (conversation_id, head) ON true
    LEFT JOIN parlance_message.conversations AS c ON c.conversation_id = u.conversation_id
    ORDER BY s.outbox_id";

const REQUESTS: &str = "
    WITH slice AS MATERIALIZED (
        SELECT q.creator_id, q.request_id, q.conversation_id
        FROM parlance_message.conversation_requests AS q
        WHERE (q.creator_id, q.request_id) > ($1, $2)
        ORDER BY q.creator_id, q.request_id
        LIMIT $3
    )
    SELECT s.creator_id, s.request_id, s.conversation_id, c.conversation_id IS NULL AS is_orphan
    FROM slice AS s
    LEFT JOIN parlance_message.conversations AS c ON c.conversation_id = s.conversation_id
    ORDER BY s.creator_id, s.request_id";

const HAS_KEY: &str = "SELECT count(*) = 1 FROM parlance_message.settings";

/// A connection that reads all there is, and nothing else.
#[derive(Debug)]
pub(crate) struct Inspection {
    connection: PgConnection,
    limit: Duration,
    slice: u32,
}

impl Inspection {
    /// Connects, and makes sure that the tables are those that this binary knows. At most `slice` rows are read at a time.
    pub(crate) async fn open(settings: &Settings, slice: u32) -> Result<Self, VersionError> {
        let limit = PATIENCE.max(settings.timeout);
        let settings = Settings { timeout: limit, plan_anew: true, ..settings.clone() };
        let mut connection = settings.open().await?;
        bounded(limit, connection.execute(sqlx::raw_sql(SESSION))).await?;
        check_version(&mut connection, &migrations::schema()).await?;
        Ok(Self { connection, limit, slice })
    }

    /// The number of rows after which a slice is full.
    pub(crate) fn slice(&self) -> usize {
        self.slice as usize
    }

    /// Conversations and entries after a place, up to and including a conversation.
    pub(crate) async fn read_slice(&mut self, after: &Place, until: Option<&str>) -> Result<Slice, Error> {
        let (limit, most) = (self.limit, self.slice);
        let most_conversations = most.div_ceil(CONVERSATIONS_OF_SLICE).max(2);
        let read = async {
            let mut snapshot = self.connection.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
            let conversations: Vec<ConversationRow> = sqlx::query_as(CONVERSATIONS)
                .bind(&after.conversation_id)
                .bind(until)
                .bind(i64::from(most_conversations))
                .fetch_all(&mut *snapshot)
                .await?;
            // Entries beyond are left to the slice that has their conversations.
            let last = conversations.last().filter(|_| conversations.len() >= most_conversations as usize);
            let end = last.map(|last| last.conversation_id.clone());
            let entries: Vec<EntryRow> = sqlx::query_as(ENTRIES)
                .bind(&after.conversation_id)
                .bind(after.sequence)
                .bind(end.as_deref().or(until))
                .bind(i64::from(most))
                .bind([EntryKind::MessageEdited, EntryKind::MessageDeleted].map(EntryKind::number))
                .bind(EntryKind::MemberLeft.number())
                .bind(EntryKind::ConversationUpdated.number())
                .fetch_all(&mut *snapshot)
                .await?;
            snapshot.commit().await?;
            Ok((conversations, entries, end))
        };
        let (mut conversations, mut entries, end) = bounded(limit, read).await?;
        if after.sequence == END {
            conversations.retain(|row| row.conversation_id != after.conversation_id);
        }
        let is_cut = entries.len() >= most as usize;
        let next = if is_cut {
            // Both of two entries with the same sequence, or none.
            let key = |row: &EntryRow| (row.conversation_id.clone(), row.sequence);
            let last = entries.last().map(key);
            let whole = entries.iter().rposition(|row| Some(key(row)) != last).map_or(entries.len(), |at| at + 1);
            entries.truncate(whole);
            entries.last().map(|row| Place { conversation_id: row.conversation_id.clone(), sequence: row.sequence })
        } else {
            end.map(|conversation_id| Place { conversation_id, sequence: END })
        };
        if let Some(Place { conversation_id, .. }) = next.as_ref().filter(|_| is_cut) {
            conversations.retain(|row| row.conversation_id <= *conversation_id);
        }
        Ok(Slice { conversations, entries, is_cut, next })
    }

    /// Members after one of a conversation, up to and including a conversation.
    pub(crate) async fn read_members(
        &mut self,
        after: (&str, &str),
        until: Option<&str>,
    ) -> Result<Vec<MemberRow>, Error> {
        let most = i64::from(self.slice);
        let query = sqlx::query_as(MEMBERS).bind(after.0).bind(after.1).bind(until).bind(most);
        self.fetch_all(query.bind(EntryKind::MemberJoined.number())).await
    }

    /// The conversations of rows of the outbox after a row; as many rows as a slice has, but all conversations of each.
    pub(crate) async fn read_outbox(&mut self, after: i64) -> Result<Vec<OutboxRow>, Error> {
        let most = i64::from(self.slice);
        self.fetch_all(sqlx::query_as(OUTBOX).bind(after).bind(most)).await
    }

    /// Requests that made conversations, after a request of a creator.
    pub(crate) async fn read_requests(&mut self, after: (&str, &str)) -> Result<Vec<RequestRow>, Error> {
        let most = i64::from(self.slice);
        self.fetch_all(sqlx::query_as(REQUESTS).bind(after.0).bind(after.1).bind(most)).await
    }

    /// Whether there is what all replicas share.
    pub(crate) async fn has_settings(&mut self) -> Result<bool, Error> {
        let rows: Vec<(bool,)> = self.fetch_all(sqlx::query_as(HAS_KEY)).await?;
        Ok(rows == [(true,)])
    }

    async fn fetch_all<O>(&mut self, query: QueryAs<'_, sqlx::Postgres, O, PgArguments>) -> Result<Vec<O>, Error>
    where
        O: Send + Unpin + for<'r> sqlx::FromRow<'r, sqlx::postgres::PgRow>,
    {
        bounded(self.limit, query.fetch_all(&mut self.connection)).await
    }
}
