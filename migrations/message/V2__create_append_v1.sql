-- Why: the write path. Whatever takes a sequence (sends, edits, deletions, members, titles) is one call of append_v1 in
-- autocommit: no lock is held over a round trip, and the outbox row is part of the transaction.
-- Locks: nothing that exists. Undo: DROP FUNCTION parlance_message.append_v1.
--
-- Each step is a statement of its own: under READ COMMITTED each takes a fresh snapshot, and what is checked after the
-- lock must see what was committed before the lock was granted. No step joins the batch with itself: positions and
-- counters live in arrays, and each join is a function scan over an index. The plan is fixed by the settings below, since
-- statistics of a table that grows from empty are no guide.
--
-- Outcomes, of sends and of changes:
--    1 stored or changed             2 stored before, or nothing to change     3 request_id used with other content
--    4 no such conversation, or none that the actor may know of                5 not a member (of a CHANNEL)
--    6 no such message               7 locked by somebody else (p_skip_locked) 8 DIRECT: never changes
--    9 the role does not allow it   10 no such member                         11 last owner
--   12 message deleted              13 not the sender                         14 another version
--
-- p_conversations holds each conversation of the batch once, in ascending byte order; sends and changes name it by its
-- position there. A pair is one (conversation, sender) of the sends, once; a send names it by position. Sends are numbered
-- in the order given, then changes in the order given.
CREATE FUNCTION parlance_message.append_v1(
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
SET enable_memoize = off
SET jit = off
AS $$
DECLARE
    v_conversations int := cardinality(p_conversations);
    v_pairs int := cardinality(p_pair_conversation);
    v_sends int := cardinality(p_send_pair);
    -- For each conversation; kind 0 = not there, -1 = locked by somebody else.
    v_kind smallint[] := array_fill(0::smallint, ARRAY[v_conversations]);
    v_first bigint[] := array_fill(NULL::bigint, ARRAY[v_conversations]);
    v_count bigint[] := array_fill(NULL::bigint, ARRAY[v_conversations]);
    v_sent bigint[] := array_fill(0::bigint, ARRAY[v_conversations]);
    -- For each pair.
    v_pair_outcome smallint[] := array_fill(0::smallint, ARRAY[v_pairs]);
    v_pair_sequence bigint[] := array_fill(NULL::bigint, ARRAY[v_pairs]);
    v_pair_ordinal bigint[] := array_fill(NULL::bigint, ARRAY[v_pairs]);
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
            SELECT p.n
            FROM unnest(p_pair_conversation, p_pair_sender) WITH ORDINALITY AS p (conversation, sender_id, n)
            JOIN parlance_message.members AS m
                ON m.conversation_id = p_conversations[p.conversation] AND m.user_id = p.sender_id
        LOOP
            IF v_kind[p_pair_conversation[r.n]] > 0 THEN
                v_pair_outcome[r.n] := 1;
            END IF;
        END LOOP;

        -- Known request ids come before membership: a repeat of what is stored succeeds also after leaving.
        FOR r IN
            SELECT s.n, m.sequence, m.ordinal, m.request_hash
            FROM unnest(p_send_pair, p_send_request_id) WITH ORDINALITY AS s (pair, request_id, n)
            JOIN parlance_message.messages AS m
                ON m.conversation_id = p_conversations[p_pair_conversation[s.pair]]
                AND m.sender_id = p_pair_sender[s.pair]
                AND m.request_id = s.request_id
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
            LEFT JOIN parlance_message.messages AS m
                ON m.conversation_id = p_conversations[p_pair_conversation[s.pair]] AND m.sequence = s.reply_to
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
                v_pair_sequence[v_pair] := head[v_at];
                v_pair_ordinal[v_pair] := v_count[v_at];
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

        -- What one writes oneself is read.
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

-- The part of append_v1 that is not messages, called by it with the conversations locked. Changes are an array of
-- {"c": position, "kind": …, "actor": …, …}: edit and delete (sequence, text, attributes), add (users, role), remove and
-- role (user, role), title (title, version). Changes of one call see each other.
CREATE FUNCTION parlance_message.append_changes_v1(
    p_conversations text[],
    p_kind smallint[],
    p_head bigint[],
    p_count bigint[],
    p_time timestamptz[],
    p_changes jsonb,
    OUT change_outcome smallint[],
    OUT head bigint[],
    OUT added text[]
)
LANGUAGE plpgsql
VOLATILE
AS $$
DECLARE
    v_at int;
    v_id text;
    v_time timestamptz;
    v_actor text;
    v_user text;
    v_role smallint;
    v_actor_role smallint;
    v_kind text;
    v_outcome smallint;
    v_text text;
    v_attributes jsonb;
    v_conversation parlance_message.conversations;
    v_message parlance_message.messages;
    v_member parlance_message.members;
    c jsonb;
BEGIN
    head := p_head;
    change_outcome := '{}';
    added := '{}';
    FOR c IN SELECT e.value FROM jsonb_array_elements(p_changes) WITH ORDINALITY AS e (value, n) ORDER BY e.n LOOP
        v_at := (c ->> 'c')::int;
        v_id := p_conversations[v_at];
        v_time := p_time[v_at];
        v_kind := c ->> 'kind';
        v_actor := c ->> 'actor';
        v_outcome := NULL;

        SELECT m.role INTO v_actor_role
        FROM parlance_message.members AS m
        WHERE m.conversation_id = v_id AND m.user_id = v_actor;

        IF p_kind[v_at] = -1 THEN
            v_outcome := 7;
        ELSIF p_kind[v_at] = 0 THEN
            v_outcome := 4;
        ELSIF v_actor_role IS NULL AND p_kind[v_at] <> 3 THEN
            v_outcome := 4;
        ELSIF v_actor_role IS NULL AND NOT (v_kind = 'add' AND c -> 'users' = jsonb_build_array(v_actor)) THEN
            v_outcome := 5;
        ELSIF p_kind[v_at] = 1 AND v_kind NOT IN ('edit', 'delete') THEN
            v_outcome := 8;

        ELSIF v_kind IN ('edit', 'delete') THEN
            SELECT m.* INTO v_message
            FROM parlance_message.messages AS m
            WHERE m.conversation_id = v_id AND m.sequence = (c ->> 'sequence')::bigint;
            v_text := coalesce(c ->> 'text', v_message.text);
            v_attributes := CASE WHEN c ? 'attributes' THEN nullif(c -> 'attributes', '{}') ELSE v_message.attributes END;
            IF v_message.sequence IS NULL THEN
                v_outcome := 6;
            ELSIF v_kind = 'edit' AND v_message.sender_id <> v_actor THEN
                v_outcome := 13;
            ELSIF v_kind = 'edit' AND v_message.deleted_at IS NOT NULL THEN
                v_outcome := 12;
            ELSIF v_kind = 'edit' AND v_text = v_message.text AND v_attributes IS NOT DISTINCT FROM v_message.attributes THEN
                v_outcome := 2;
            ELSIF v_kind = 'delete' AND v_message.sender_id <> v_actor AND v_actor_role = 3 THEN
                v_outcome := 9;
            ELSIF v_kind = 'delete' AND v_message.deleted_at IS NOT NULL THEN
                v_outcome := 2;
            ELSIF v_kind = 'edit' THEN
                head[v_at] := head[v_at] + 1;
                UPDATE parlance_message.messages AS m
                SET text = v_text, attributes = v_attributes, edited_at = v_time, change_sequence = head[v_at]
                WHERE m.conversation_id = v_id AND m.sequence = v_message.sequence;
                INSERT INTO parlance_message.changes (conversation_id, sequence, kind, actor_id, target_sequence, created_at)
                VALUES (v_id, head[v_at], 1, v_actor, v_message.sequence, v_time);
            ELSE
                head[v_at] := head[v_at] + 1;
                UPDATE parlance_message.messages AS m
                SET text = '', attributes = NULL, request_hash = NULL, deleted_at = v_time, change_sequence = head[v_at]
                WHERE m.conversation_id = v_id AND m.sequence = v_message.sequence;
                INSERT INTO parlance_message.changes (conversation_id, sequence, kind, actor_id, target_sequence, created_at)
                VALUES (v_id, head[v_at], 2, v_actor, v_message.sequence, v_time);
            END IF;

        ELSIF v_kind = 'add' THEN
            v_role := (c ->> 'role')::smallint;
            IF v_actor_role = 1 OR (v_actor_role = 2 AND v_role = 3)
                OR (p_kind[v_at] = 3 AND v_role = 3 AND c -> 'users' = jsonb_build_array(v_actor))
            THEN
                v_outcome := 2;
                FOR v_user IN
                    SELECT u.value
                    FROM jsonb_array_elements_text(c -> 'users') WITH ORDINALITY AS u (value, n)
                    WHERE NOT EXISTS (
                        SELECT FROM parlance_message.members AS m WHERE m.conversation_id = v_id AND m.user_id = u.value
                    )
                    ORDER BY u.n
                LOOP
                    v_outcome := NULL;
                    head[v_at] := head[v_at] + 1;
                    added := added || v_user;
                    -- Who joins has read everything up to the join.
                    INSERT INTO parlance_message.members (
                        conversation_id, user_id, role, join_sequence, joined_at, last_read_sequence, last_read_ordinal
                    ) VALUES (v_id, v_user, v_role, head[v_at], v_time, head[v_at], p_count[v_at]);
                    INSERT INTO parlance_message.changes (
                        conversation_id, sequence, kind, actor_id, user_id, role, joined_at, created_at
                    ) VALUES (v_id, head[v_at], 3, v_actor, v_user, v_role, v_time, v_time);
                END LOOP;
            ELSE
                v_outcome := 9;
            END IF;

        ELSIF v_kind IN ('remove', 'role') THEN
            v_user := c ->> 'user';
            v_role := (c ->> 'role')::smallint;
            SELECT m.* INTO v_member
            FROM parlance_message.members AS m
            WHERE m.conversation_id = v_id AND m.user_id = v_user;
            IF v_kind = 'role' AND v_actor_role <> 1 THEN
                v_outcome := 9;
            ELSIF v_kind = 'remove' AND v_actor_role = 3 AND v_user <> v_actor THEN
                v_outcome := 9;
            ELSIF v_member.user_id IS NULL THEN
                v_outcome := 10;
            ELSIF v_kind = 'remove' AND v_user <> v_actor AND v_actor_role = 2 AND v_member.role <> 3 THEN
                v_outcome := 9;
            ELSIF v_kind = 'role' AND v_member.role = v_role THEN
                v_outcome := 2;
            ELSIF v_member.role = 1
                AND NOT EXISTS (
                    SELECT FROM parlance_message.members AS m
                    WHERE m.conversation_id = v_id AND m.role = 1 AND m.user_id <> v_user
                )
                AND (
                    v_kind = 'role'
                    OR EXISTS (
                        SELECT FROM parlance_message.members AS m WHERE m.conversation_id = v_id AND m.user_id <> v_user
                    )
                )
            THEN
                v_outcome := 11;
            ELSIF v_kind = 'remove' THEN
                head[v_at] := head[v_at] + 1;
                DELETE FROM parlance_message.members AS m WHERE m.conversation_id = v_id AND m.user_id = v_user;
                INSERT INTO parlance_message.changes (
                    conversation_id, sequence, kind, actor_id, user_id, role, joined_at, created_at
                ) VALUES (v_id, head[v_at], 4, v_actor, v_user, v_member.role, v_member.joined_at, v_time);
            ELSE
                head[v_at] := head[v_at] + 1;
                UPDATE parlance_message.members AS m
                SET role = v_role
                WHERE m.conversation_id = v_id AND m.user_id = v_user;
                INSERT INTO parlance_message.changes (
                    conversation_id, sequence, kind, actor_id, user_id, role, joined_at, created_at
                ) VALUES (v_id, head[v_at], 5, v_actor, v_user, v_role, v_member.joined_at, v_time);
            END IF;

        ELSE
            SELECT d.* INTO v_conversation FROM parlance_message.conversations AS d WHERE d.conversation_id = v_id;
            IF v_actor_role = 3 THEN
                v_outcome := 9;
            ELSIF (c ->> 'version')::bigint <> v_conversation.version THEN
                v_outcome := 14;
            ELSIF c ->> 'title' = v_conversation.title THEN
                v_outcome := 2;
            ELSE
                head[v_at] := head[v_at] + 1;
                UPDATE parlance_message.conversations AS d
                SET title = c ->> 'title', version = d.version + 1, updated_at = v_time
                WHERE d.conversation_id = v_id;
                INSERT INTO parlance_message.changes (
                    conversation_id, sequence, kind, actor_id, title, version, created_at
                ) VALUES (v_id, head[v_at], 6, v_actor, c ->> 'title', v_conversation.version + 1, v_time);
            END IF;
        END IF;
        change_outcome := change_outcome || coalesce(v_outcome, 1::smallint);
    END LOOP;
END;
$$;

-- Makes a conversation: 1 made, 2 made before by the same request (or the DIRECT one of this pair), 3 request_id used with
-- other content, 15 the id is taken. p_members are the others, each once, without the creator.
CREATE FUNCTION parlance_message.create_conversation_v1(
    p_conversation_id text,
    p_kind smallint,
    p_title text,
    p_creator_id text,
    p_members text[],
    p_request_id text,
    p_request_hash bytea,
    OUT outcome smallint,
    OUT conversation_id text
)
LANGUAGE plpgsql
VOLATILE
AS $$
#variable_conflict use_column
DECLARE
    v_now timestamptz;
    v_last bigint := 1 + cardinality(p_members);
    v_request parlance_message.conversation_requests;
BEGIN
    -- Waits for a transaction that is making the same one.
    INSERT INTO parlance_message.conversation_requests (creator_id, request_id, request_hash, conversation_id)
    VALUES (p_creator_id, p_request_id, p_request_hash, p_conversation_id)
    ON CONFLICT ON CONSTRAINT conversation_requests_pkey DO NOTHING;
    IF NOT FOUND THEN
        SELECT q.* INTO STRICT v_request
        FROM parlance_message.conversation_requests AS q
        WHERE q.creator_id = p_creator_id AND q.request_id = p_request_id;
        create_conversation_v1.outcome := CASE WHEN v_request.request_hash = p_request_hash THEN 2 ELSE 3 END;
        create_conversation_v1.conversation_id := v_request.conversation_id;
        RETURN;
    END IF;

    v_now := clock_timestamp();
    create_conversation_v1.conversation_id := p_conversation_id;
    INSERT INTO parlance_message.conversations (
        conversation_id, kind, title, creator_id, last_sequence, last_entry_at, created_at, updated_at
    ) VALUES (p_conversation_id, p_kind, p_title, p_creator_id, v_last, v_now, v_now, v_now)
    ON CONFLICT ON CONSTRAINT conversations_pkey DO NOTHING;
    IF NOT FOUND THEN
        IF p_kind = 1 THEN
            create_conversation_v1.outcome := 2;
        ELSE
            DELETE FROM parlance_message.conversation_requests AS q
            WHERE q.creator_id = p_creator_id AND q.request_id = p_request_id;
            create_conversation_v1.outcome := 15;
        END IF;
        RETURN;
    END IF;

    INSERT INTO parlance_message.members (
        conversation_id, user_id, role, join_sequence, joined_at, last_read_sequence, last_read_ordinal
    )
    SELECT p_conversation_id, u.user_id, CASE WHEN u.n = 1 AND p_kind <> 1 THEN 1 ELSE 3 END, u.n, v_now, u.n, 0
    FROM unnest(p_creator_id || p_members) WITH ORDINALITY AS u (user_id, n);
    INSERT INTO parlance_message.changes (
        conversation_id, sequence, kind, actor_id, user_id, role, joined_at, created_at
    )
    SELECT p_conversation_id, u.n, 3, p_creator_id, u.user_id, CASE WHEN u.n = 1 AND p_kind <> 1 THEN 1 ELSE 3 END,
        v_now, v_now
    FROM unnest(p_creator_id || p_members) WITH ORDINALITY AS u (user_id, n);
    INSERT INTO parlance_message.outbox (conversation_ids, last_sequences, user_ids, created_at)
    VALUES (ARRAY[p_conversation_id], ARRAY[v_last], p_creator_id || p_members, v_now);
    create_conversation_v1.outcome := 1;
END;
$$;
