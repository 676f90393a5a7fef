-- Why: two faults of append_v1.
-- A plan that was made while the tables were empty is kept, and may read a whole conversation through an index that fits only
-- in part: sends got slower with each message until the connections were renewed. Each look now asks for an order that only
-- the right index has, and sorting is off, so no other plan is possible, whatever the statistics say.
-- A message sent from a queue after others had written marked theirs as read. A send moves its sender's read mark only if
-- nothing was unread before it.
-- The signature and the outcomes are those of V2; older binaries that are running use it, too.
-- Locks: nothing that exists. Undo: CREATE OR REPLACE FUNCTION parlance_message.append_v1 as in V2, and
-- parlance_message.change_message_edited_v1 and change_message_deleted_v1 as in V3.

CREATE OR REPLACE FUNCTION parlance_message.append_v1(
    p_conversations text[],
    p_pair_conversation int[],
    p_pair_sender text[],
    p_send_pair int[],
    p_send_request_id text[],
    p_send_request_hash bytea[],
    p_send_text text[],
    p_send_attributes jsonb[],
    p_send_reply_to bigint[],
    p_changes jsonb,
    p_skip_locked boolean,
    -- For each send.
    OUT send_outcome smallint[],
    OUT send_sequence bigint[],
    OUT send_ordinal bigint[],
    -- For each change.
    OUT change_outcome smallint[],
    -- For each conversation: its head after this call (NULL if unknown) and the time of what was stored in this call.
    OUT head bigint[],
    OUT entry_time timestamptz[]
)
LANGUAGE plpgsql
VOLATILE
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET enable_material = off
SET enable_sort = off
SET enable_incremental_sort = off
SET enable_memoize = off
SET jit = off
AS $$
DECLARE
    v_conversations int := cardinality(p_conversations);
    v_pairs int := cardinality(p_pair_conversation);
    v_sends int := cardinality(p_send_pair);
    -- For each conversation; kind 0 = it does not exist, -1 = it is locked by another transaction.
    v_kind smallint[] := array_fill(0::smallint, ARRAY[v_conversations]);
    v_first bigint[] := array_fill(NULL::bigint, ARRAY[v_conversations]);
    v_count bigint[] := array_fill(NULL::bigint, ARRAY[v_conversations]);
    v_sent bigint[] := array_fill(0::bigint, ARRAY[v_conversations]);
    -- For each pair.
    v_pair_outcome smallint[] := array_fill(0::smallint, ARRAY[v_pairs]);
    v_pair_sequence bigint[] := array_fill(NULL::bigint, ARRAY[v_pairs]);
    v_pair_ordinal bigint[] := array_fill(NULL::bigint, ARRAY[v_pairs]);
    -- The messages that the sender has read.
    v_pair_read bigint[] := array_fill(NULL::bigint, ARRAY[v_pairs]);
    v_added text[] := '{}';
    v_now timestamptz;
    v_at int := 0;
    v_pair int;
    v_outcome smallint;
    v_replies boolean := false;
    v_busy boolean := false;
    r record;
BEGIN
    head := v_first;
    entry_time := array_fill(NULL::timestamptz, ARRAY[v_conversations]);
    send_outcome := array_fill(NULL::smallint, ARRAY[v_sends]);
    send_sequence := array_fill(NULL::bigint, ARRAY[v_sends]);
    send_ordinal := send_sequence;

    -- Lock, in one order everywhere.
    IF p_skip_locked THEN
        FOR r IN
            SELECT c.conversation_id, c.kind, c.last_sequence, c.message_count, c.last_entry_at
            FROM parlance_message.conversations AS c
            WHERE c.conversation_id = ANY (p_conversations)
            ORDER BY c.conversation_id
            FOR NO KEY UPDATE SKIP LOCKED
        LOOP
            LOOP
                v_at := v_at + 1;
                EXIT WHEN p_conversations[v_at] = r.conversation_id;
            END LOOP;
            v_kind[v_at] := r.kind;
            v_first[v_at] := r.last_sequence;
            v_count[v_at] := r.message_count;
            entry_time[v_at] := r.last_entry_at;
        END LOOP;
        FOR r IN
            SELECT u.n
            FROM unnest(p_conversations, v_kind) WITH ORDINALITY AS u (conversation_id, kind, n)
            JOIN parlance_message.conversations AS c ON c.conversation_id = u.conversation_id
            WHERE u.kind = 0
        LOOP
            v_kind[r.n] := -1;
            v_busy := true;
        END LOOP;
    ELSE
        FOR r IN
            SELECT c.conversation_id, c.kind, c.last_sequence, c.message_count, c.last_entry_at
            FROM parlance_message.conversations AS c
            WHERE c.conversation_id = ANY (p_conversations)
            ORDER BY c.conversation_id
            FOR NO KEY UPDATE
        LOOP
            LOOP
                v_at := v_at + 1;
                EXIT WHEN p_conversations[v_at] = r.conversation_id;
            END LOOP;
            v_kind[v_at] := r.kind;
            v_first[v_at] := r.last_sequence;
            v_count[v_at] := r.message_count;
            entry_time[v_at] := r.last_entry_at;
        END LOOP;
    END IF;
    head := v_first;

    -- The clock is read after the lock, and never runs backwards within a conversation.
    v_now := clock_timestamp();
    FOR v_at IN 1..v_conversations LOOP
        IF v_kind[v_at] > 0 AND entry_time[v_at] < v_now THEN
            entry_time[v_at] := v_now;
        END IF;
    END LOOP;

    IF v_sends > 0 THEN
        -- Who may send: 0 not there, 1 may, 4 and 5 may not, 7 locked.
        FOR v_at IN 1..v_pairs LOOP
            v_pair_outcome[v_at] := CASE v_kind[p_pair_conversation[v_at]] WHEN -1 THEN 7 WHEN 3 THEN 5 ELSE 4 END;
        END LOOP;
        FOR r IN
            SELECT p.n, m.last_read_ordinal
            FROM unnest(p_pair_conversation, p_pair_sender) WITH ORDINALITY AS p (conversation, sender_id, n)
            JOIN parlance_message.members AS m
                ON m.conversation_id = p_conversations[p.conversation] AND m.user_id = p.sender_id
        LOOP
            IF v_kind[p_pair_conversation[r.n]] > 0 THEN
                v_pair_outcome[r.n] := 1;
                v_pair_read[r.n] := r.last_read_ordinal;
            END IF;
        END LOOP;

        -- Known request ids come before membership: a repeat of what is stored succeeds also after leaving.
        FOR r IN
            SELECT s.n, m.sequence, m.ordinal, m.request_hash
            FROM unnest(p_send_pair, p_send_request_id) WITH ORDINALITY AS s (pair, request_id, n)
            CROSS JOIN LATERAL (
                SELECT k.sequence, k.ordinal, k.request_hash
                FROM parlance_message.messages AS k
                WHERE k.conversation_id = p_conversations[p_pair_conversation[s.pair]]
                    AND k.sender_id = p_pair_sender[s.pair]
                    AND k.request_id BETWEEN s.request_id AND s.request_id
                ORDER BY k.request_id
                LIMIT 1
            ) AS m
        LOOP
            IF v_pair_outcome[p_send_pair[r.n]] = 7 THEN
                CONTINUE;
            ELSIF r.request_hash IS NULL OR r.request_hash = p_send_request_hash[r.n] THEN
                send_outcome[r.n] := 2;
                send_sequence[r.n] := r.sequence;
                send_ordinal[r.n] := r.ordinal;
            ELSE
                send_outcome[r.n] := 3;
            END IF;
        END LOOP;

        -- What is answered must be a message: 6 until found.
        FOR r IN
            SELECT s.n, m.sequence
            FROM unnest(p_send_pair, p_send_reply_to) WITH ORDINALITY AS s (pair, reply_to, n)
            LEFT JOIN LATERAL (
                SELECT k.sequence
                FROM parlance_message.messages AS k
                WHERE k.conversation_id = p_conversations[p_pair_conversation[s.pair]]
                    AND k.sequence BETWEEN s.reply_to AND s.reply_to
                ORDER BY k.sequence
                LIMIT 1
            ) AS m ON true
            WHERE s.reply_to IS NOT NULL
        LOOP
            IF r.sequence IS NULL AND send_outcome[r.n] IS NULL AND v_pair_outcome[p_send_pair[r.n]] = 1 THEN
                send_outcome[r.n] := 6;
            END IF;
        END LOOP;

        -- Number what is new.
        FOR v_send IN 1..v_sends LOOP
            CONTINUE WHEN send_outcome[v_send] IS NOT NULL;
            v_pair := p_send_pair[v_send];
            v_outcome := v_pair_outcome[v_pair];
            send_outcome[v_send] := v_outcome;
            IF v_outcome = 1 THEN
                v_at := p_pair_conversation[v_pair];
                head[v_at] := head[v_at] + 1;
                v_count[v_at] := v_count[v_at] + 1;
                v_sent[v_at] := head[v_at];
                send_sequence[v_send] := head[v_at];
                send_ordinal[v_send] := v_count[v_at];
                -- What one writes oneself is read, unless there is something unread before it.
                IF v_pair_read[v_pair] = v_count[v_at] - 1 THEN
                    v_pair_read[v_pair] := v_count[v_at];
                    v_pair_sequence[v_pair] := head[v_at];
                    v_pair_ordinal[v_pair] := v_count[v_at];
                END IF;
            END IF;
        END LOOP;

        INSERT INTO parlance_message.messages (
            conversation_id, sequence, ordinal, sender_id, request_id, request_hash, text, attributes,
            reply_to_sequence, created_at, change_sequence
        )
        SELECT
            p_conversations[p_pair_conversation[s.pair]], s.sequence, s.ordinal, p_pair_sender[s.pair], s.request_id,
            s.request_hash, s.text, s.attributes, s.reply_to, entry_time[p_pair_conversation[s.pair]], s.sequence
        FROM unnest(
            p_send_pair, send_outcome, send_sequence, send_ordinal, p_send_request_id, p_send_request_hash, p_send_text,
            p_send_attributes, p_send_reply_to
        ) AS s (pair, outcome, sequence, ordinal, request_id, request_hash, text, attributes, reply_to)
        WHERE s.outcome = 1;

        UPDATE parlance_message.members AS m
        SET last_read_sequence = p.sequence, last_read_ordinal = p.ordinal
        FROM unnest(p_pair_conversation, p_pair_sender, v_pair_sequence, v_pair_ordinal)
            AS p (conversation, sender_id, sequence, ordinal)
        WHERE p.sequence IS NOT NULL
            AND m.conversation_id = p_conversations[p.conversation]
            AND m.user_id = p.sender_id;
    END IF;

    IF p_changes IS NOT NULL THEN
        SELECT a.change_outcome, a.head, a.added
        INTO change_outcome, head, v_added
        FROM parlance_message.append_changes_v1(p_conversations, v_kind, head, v_count, entry_time, p_changes) AS a;
    ELSE
        change_outcome := '{}';
    END IF;

    UPDATE parlance_message.conversations AS c
    SET last_sequence = u.head,
        message_count = u.message_count,
        last_message_sequence = CASE WHEN u.sent > 0 THEN u.sent ELSE c.last_message_sequence END,
        last_message_at = CASE WHEN u.sent > 0 THEN u.entry_time ELSE c.last_message_at END,
        last_entry_at = u.entry_time
    FROM unnest(p_conversations, v_first, head, v_count, v_sent, entry_time)
        AS u (conversation_id, first, head, message_count, sent, entry_time)
    WHERE u.head > u.first AND c.conversation_id = u.conversation_id;

    IF FOUND THEN
        INSERT INTO parlance_message.outbox (conversation_ids, last_sequences, user_ids, created_at)
        SELECT array_agg(u.conversation_id), array_agg(u.head), v_added, v_now
        FROM unnest(p_conversations, v_first, head) AS u (conversation_id, first, head)
        WHERE u.head > u.first;
    END IF;
END;
$$;

CREATE OR REPLACE FUNCTION parlance_message.change_message_edited_v1(
    p_on parlance_message.change_context,
    p_change jsonb,
    OUT outcome smallint,
    OUT head bigint,
    OUT added text[]
)
LANGUAGE plpgsql
VOLATILE
AS $$
DECLARE
    v_message parlance_message.messages;
    v_text text;
    v_attributes jsonb;
BEGIN
    head := p_on.head;
    SELECT m.* INTO v_message
    FROM parlance_message.messages AS m
    WHERE m.conversation_id = p_on.conversation_id
        AND m.sequence BETWEEN (p_change ->> 'sequence')::bigint AND (p_change ->> 'sequence')::bigint
    ORDER BY m.sequence
    LIMIT 1;
    v_text := coalesce(p_change ->> 'text', v_message.text);
    v_attributes := CASE
        WHEN p_change ? 'attributes' THEN nullif(p_change -> 'attributes', '{}')
        ELSE v_message.attributes
    END;
    outcome := CASE
        WHEN v_message.sequence IS NULL THEN 6
        WHEN v_message.sender_id <> p_on.actor_id THEN 13
        WHEN NOT parlance_message.may_v1(p_on.actor_role, 'edit_own_message', NULL) THEN 9
        WHEN v_message.deleted_at IS NOT NULL THEN 12
        WHEN v_text = v_message.text AND v_attributes IS NOT DISTINCT FROM v_message.attributes THEN 2
        ELSE 1
    END;
    IF outcome = 1 THEN
        head := head + 1;
        UPDATE parlance_message.messages AS m
        SET text = v_text, attributes = v_attributes, edited_at = p_on.entry_time, change_sequence = head
        -- Either index of these columns fits whole.
        WHERE m.conversation_id = p_on.conversation_id
            AND m.sequence = v_message.sequence
            AND m.sender_id = v_message.sender_id
            AND m.request_id = v_message.request_id;
        INSERT INTO parlance_message.changes (conversation_id, sequence, kind, actor_id, target_sequence, created_at)
        VALUES (p_on.conversation_id, head, 1, p_on.actor_id, v_message.sequence, p_on.entry_time);
    END IF;
END;
$$;

CREATE OR REPLACE FUNCTION parlance_message.change_message_deleted_v1(
    p_on parlance_message.change_context,
    p_change jsonb,
    OUT outcome smallint,
    OUT head bigint,
    OUT added text[]
)
LANGUAGE plpgsql
VOLATILE
AS $$
DECLARE
    v_message parlance_message.messages;
    v_verb text;
BEGIN
    head := p_on.head;
    SELECT m.* INTO v_message
    FROM parlance_message.messages AS m
    WHERE m.conversation_id = p_on.conversation_id
        AND m.sequence BETWEEN (p_change ->> 'sequence')::bigint AND (p_change ->> 'sequence')::bigint
    ORDER BY m.sequence
    LIMIT 1;
    v_verb := CASE WHEN v_message.sender_id = p_on.actor_id THEN 'delete_own_message' ELSE 'delete_message' END;
    outcome := CASE
        WHEN v_message.sequence IS NULL THEN 6
        WHEN NOT parlance_message.may_v1(p_on.actor_role, v_verb, NULL) THEN 9
        WHEN v_message.deleted_at IS NOT NULL THEN 2
        ELSE 1
    END;
    IF outcome = 1 THEN
        head := head + 1;
        UPDATE parlance_message.messages AS m
        SET text = '', attributes = NULL, request_hash = NULL, deleted_at = p_on.entry_time, change_sequence = head
        -- Either index of these columns fits whole.
        WHERE m.conversation_id = p_on.conversation_id
            AND m.sequence = v_message.sequence
            AND m.sender_id = v_message.sender_id
            AND m.request_id = v_message.request_id;
        INSERT INTO parlance_message.changes (conversation_id, sequence, kind, actor_id, target_sequence, created_at)
        VALUES (p_on.conversation_id, head, 2, p_on.actor_id, v_message.sequence, p_on.entry_time);
    END IF;
END;
$$;
