//! Reads all stored data in slices for a check (`verify/`): by keyset along primary keys, over one read-only connection.
//!
//! Each slice is a separate snapshot that takes milliseconds, so a check of a large and busy database delays neither
//! vacuum nor other sessions. That suffices: values that are compared are read within one slice, or never change once
//! committed (the sequence, the ordinal and the time of an entry). No row is locked.

use std::time::Duration;

use service_kit::database::{Settings, VersionError, bounded, check_version};
use sqlx::{Connection, Executor, PgConnection, postgres::PgArguments, query::QueryAs};
use time::OffsetDateTime;

use super::{Error, migrations};

/// The timeout of one slice, unless the service has a longer one.
const SLICE_TIMEOUT: Duration = Duration::from_mins(1);

/// Makes the session read-only, bounds its waits for locks, and makes it read along primary keys, since a table that was
/// just restored has no useful statistics.
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

/// At most this fraction of a slice's rows are conversations: most have more entries than that, and those that the slice
/// does not reach are read again.
const CONVERSATIONS_OF_SLICE: u32 = 10;

/// Sorts after every entry of a conversation.
const END: i64 = i64::MAX;

/// The key of the entry after which the next slice starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ResumeKey {
    pub(crate) conversation_id: String,
    /// [`END`] after all entries of the conversation.
    sequence: i64,
}

impl ResumeKey {
    /// Starts before all entries, or before those of one conversation.
    pub(crate) fn before(conversation_id: Option<&str>) -> Self {
        match conversation_id {
            Some(id) => Self { conversation_id: id.to_owned(), sequence: i64::MIN },
            None => Self { conversation_id: String::new(), sequence: END },
        }
    }
}

/// Consecutive conversations and entries, from one snapshot.
#[derive(Debug)]
pub(crate) struct Slice {
    /// In the order of their ids, including those without entries.
    pub(crate) conversations: Vec<ConversationRow>,
    /// In the order of ids and sequences, including those of conversations that do not exist.
    pub(crate) entries: Vec<EntryRow>,
    /// True if the conversation of the last entry may continue in the next slice.
    pub(crate) is_cut: bool,
    /// The start of the next slice; `None` after the last one.
    pub(crate) next: Option<ResumeKey>,
}

/// A conversation with its counters, and a summary of its members.
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
    /// Counted up to three.
    pub(crate) members: i64,
}

/// An entry of a log, with the rows that it refers to.
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
    /// For a message: the entry that it replies to, and if that is a message.
    pub(crate) reply_to_sequence: Option<i64>,
    pub(crate) reply_is_message: Option<bool>,
    /// For a changed message: the entry in its `change_sequence`.
    pub(crate) changed_by_kind: Option<i16>,
    pub(crate) changed_by_target: Option<i64>,
    /// For an edit or a deletion: the message, and the entry in its `change_sequence`.
    pub(crate) target_sequence: Option<i64>,
    pub(crate) target_change_sequence: Option<i64>,
    /// For a leave: the user, and the join if the user is a member.
    pub(crate) user_id: Option<String>,
    pub(crate) member_join_sequence: Option<i64>,
    pub(crate) version: Option<i64>,
}

/// A member, with the rows that it refers to.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct MemberRow {
    pub(crate) conversation_id: String,
    pub(crate) user_id: String,
    pub(crate) join_sequence: i64,
    pub(crate) last_read_sequence: i64,
    pub(crate) last_read_ordinal: i64,
    /// `None` if the conversation does not exist.
    pub(crate) last_sequence: Option<i64>,
    pub(crate) oldest_sequence: Option<i64>,
    /// The user of the entry in `join_sequence`.
    pub(crate) joined_user_id: Option<String>,
    /// The ordinal of the last message up to the read mark.
    pub(crate) ordinal_at_mark: Option<i64>,
}

/// One conversation of an outbox row.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct OutboxRow {
    pub(crate) outbox_id: i64,
    pub(crate) conversation_id: Option<String>,
    pub(crate) head: Option<i64>,
    /// `None` if the conversation does not exist.
    pub(crate) last_sequence: Option<i64>,
}

/// A request that created a conversation.
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

// Limited before the joins, so that there are no more look-ups than rows in the slice.
const ENTRIES: &str = "
    WITH sent AS MATERIALIZED (
        SELECT m.conversation_id, m.sequence, m.ordinal, m.change_sequence, m.reply_to_sequence, m.created_at,
            m.edited_at IS NOT NULL AS is_edited, m.deleted_at IS NOT NULL AS is_deleted
        FROM parlance_message.messages AS m
        WHERE (m.conversation_id, m.sequence) > ($1, $2) AND ($3::text IS NULL OR m.conversation_id <= $3)
        ORDER BY m.conversation_id, m.sequence
        LIMIT $4
    ), changed AS MATERIALIZED (
        SELECT c.conversation_id, c.sequence, c.kind, c.target_sequence, c.user_id, c.version, c.created_at
        FROM parlance_message.changes AS c
        WHERE (c.conversation_id, c.sequence) > ($1, $2) AND ($3::text IS NULL OR c.conversation_id <= $3)
        ORDER BY c.conversation_id, c.sequence
        LIMIT $4
    )
    SELECT s.conversation_id, s.sequence, 0::smallint AS kind, s.created_at, s.ordinal, s.change_sequence, s.is_edited,
        s.is_deleted, s.reply_to_sequence, r.sequence IS NOT NULL AS reply_is_message, d.kind AS changed_by_kind,
        d.target_sequence AS changed_by_target, NULL::bigint AS target_sequence, NULL::bigint AS target_change_sequence,
        NULL::text AS user_id, NULL::bigint AS member_join_sequence, NULL::bigint AS version
    FROM sent AS s
    LEFT JOIN parlance_message.messages AS r
        ON r.conversation_id = s.conversation_id AND r.sequence = s.reply_to_sequence
    LEFT JOIN parlance_message.changes AS d
        ON s.change_sequence <> s.sequence AND d.conversation_id = s.conversation_id AND d.sequence = s.change_sequence
    UNION ALL
    SELECT c.conversation_id, c.sequence, c.kind, c.created_at, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
        c.target_sequence, t.change_sequence, c.user_id, m.join_sequence, c.version
    FROM changed AS c
    LEFT JOIN parlance_message.messages AS t
        ON c.kind IN (1, 2) AND t.conversation_id = c.conversation_id AND t.sequence = c.target_sequence
    LEFT JOIN parlance_message.members AS m
        ON c.kind = 4 AND m.conversation_id = c.conversation_id AND m.user_id = c.user_id
    ORDER BY conversation_id, sequence, kind
    LIMIT $4";

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
        ON j.kind = 3 AND j.conversation_id = s.conversation_id AND j.sequence = s.join_sequence
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

/// A read-only connection for a check.
#[derive(Debug)]
pub(crate) struct Inspection {
    connection: PgConnection,
    limit: Duration,
    slice: u32,
}

impl Inspection {
    /// Connects, and checks that the schema has the version of this binary. At most `slice` rows are read at a time.
    pub(crate) async fn open(settings: &Settings, slice: u32) -> Result<Self, VersionError> {
        let limit = SLICE_TIMEOUT.max(settings.timeout);
        let settings = Settings { timeout: limit, plan_anew: true, ..settings.clone() };
        let mut connection = settings.open().await?;
        bounded(limit, connection.execute(sqlx::raw_sql(SESSION))).await?;
        check_version(&mut connection, &migrations::schema()).await?;
        Ok(Self { connection, limit, slice })
    }

    /// Returns the number of rows of a full slice.
    pub(crate) fn slice(&self) -> usize {
        self.slice as usize
    }

    /// Reads conversations and entries after a key, up to and including a conversation.
    pub(crate) async fn read_slice(&mut self, after: &ResumeKey, until: Option<&str>) -> Result<Slice, Error> {
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
            // Later entries are left to the slice that has their conversations.
            let last = conversations.last().filter(|_| conversations.len() >= most_conversations as usize);
            let end = last.map(|last| last.conversation_id.clone());
            let entries: Vec<EntryRow> = sqlx::query_as(ENTRIES)
                .bind(&after.conversation_id)
                .bind(after.sequence)
                .bind(end.as_deref().or(until))
                .bind(i64::from(most))
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
            // Two entries with the same sequence stay together.
            let key = |row: &EntryRow| (row.conversation_id.clone(), row.sequence);
            let last = entries.last().map(key);
            let whole = entries.iter().rposition(|row| Some(key(row)) != last).map_or(entries.len(), |at| at + 1);
            entries.truncate(whole);
            entries.last().map(|row| ResumeKey { conversation_id: row.conversation_id.clone(), sequence: row.sequence })
        } else {
            end.map(|conversation_id| ResumeKey { conversation_id, sequence: END })
        };
        if let Some(ResumeKey { conversation_id, .. }) = next.as_ref().filter(|_| is_cut) {
            conversations.retain(|row| row.conversation_id <= *conversation_id);
        }
        Ok(Slice { conversations, entries, is_cut, next })
    }

    /// Reads members after a (conversation, user) key, up to and including a conversation.
    pub(crate) async fn read_members(
        &mut self,
        after: (&str, &str),
        until: Option<&str>,
    ) -> Result<Vec<MemberRow>, Error> {
        let most = i64::from(self.slice);
        self.fetch_all(sqlx::query_as(MEMBERS).bind(after.0).bind(after.1).bind(until).bind(most)).await
    }

    /// Reads the rows of the outbox after an id, a slice of rows with all conversations of each.
    pub(crate) async fn read_outbox(&mut self, after: i64) -> Result<Vec<OutboxRow>, Error> {
        let most = i64::from(self.slice);
        self.fetch_all(sqlx::query_as(OUTBOX).bind(after).bind(most)).await
    }

    /// Reads the requests that created conversations, after a (creator, request) key.
    pub(crate) async fn read_requests(&mut self, after: (&str, &str)) -> Result<Vec<RequestRow>, Error> {
        let most = i64::from(self.slice);
        self.fetch_all(sqlx::query_as(REQUESTS).bind(after.0).bind(after.1).bind(most)).await
    }

    /// Returns true if the settings that replicas share exist.
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
