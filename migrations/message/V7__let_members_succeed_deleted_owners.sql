-- Why: where the accounts of all owners are deleted, no call could change its roles any more. A member succeeds them,
-- by entries of a kind that all clients know.
-- Locks: none beyond the functions' own rows.
-- Old binaries run beside this: append_changes_v1, which append_v1 calls, now calls append_changes_v3, which differs from
-- append_changes_v2 by the kind "succession". Old binaries never send it.
-- Undo: CREATE OR REPLACE append_changes_v1 as in V3; DROP FUNCTION append_changes_v3, change_owner_succeeded_v1.

-- {"kind": "succession", "user", "owners": […]}: this user becomes owner in place of these, which become plain members,
-- unless there is another owner. The entries name the successor as their actor.
CREATE FUNCTION parlance_message.change_owner_succeeded_v1(
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
    v_successor text := p_change ->> 'user';
    r record;
BEGIN
    head := p_on.head;
    outcome := 2;
    -- Decided before, without the lock: another replica may have been first, or the successor has left.
    IF EXISTS (
        SELECT FROM parlance_message.members AS m
        WHERE m.conversation_id = p_on.conversation_id AND m.role = 1 AND NOT p_change -> 'owners' ? m.user_id
    ) OR NOT EXISTS (
        SELECT FROM parlance_message.members AS m
        WHERE m.conversation_id = p_on.conversation_id AND m.user_id = v_successor AND m.role <> 1
    ) THEN
        RETURN;
    END IF;
    outcome := 1;
    -- The successor first: there is an owner after every entry.
    FOR r IN
        SELECT m.user_id, m.joined_at, CASE WHEN m.role = 1 THEN 3 ELSE 1 END::smallint AS role
        FROM parlance_message.members AS m
        WHERE m.conversation_id = p_on.conversation_id AND (m.role = 1 OR m.user_id = v_successor)
        ORDER BY m.role DESC, m.user_id
    LOOP
        head := head + 1;
        UPDATE parlance_message.members AS m
        SET role = r.role
        WHERE m.conversation_id = p_on.conversation_id AND m.user_id = r.user_id;
        INSERT INTO parlance_message.changes (
            conversation_id, sequence, kind, actor_id, user_id, role, joined_at, created_at
        ) VALUES (p_on.conversation_id, head, 5, v_successor, r.user_id, r.role, r.joined_at, p_on.entry_time);
    END LOOP;
END;
$$;

-- Applies what is not a message, for append_v1, which has locked the conversations. Changes are an array of
-- {"c": position of the conversation, "kind", "actor", …}, the rest as described at the kind's function. Changes of one
-- call see each other. Refuses what every kind refuses, then calls the kind's function. An unknown kind raises, and
-- nothing of the call is stored.
CREATE FUNCTION parlance_message.append_changes_v3(
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
    v_kind text;
    v_outcome smallint;
    v_on parlance_message.change_context;
    r record;
    c jsonb;
BEGIN
    head := p_head;
    change_outcome := '{}';
    added := '{}';
    FOR c IN SELECT e.value FROM jsonb_array_elements(p_changes) WITH ORDINALITY AS e (value, n) ORDER BY e.n LOOP
        v_at := (c ->> 'c')::int;
        v_kind := c ->> 'kind';
        v_on := (
            p_conversations[v_at], p_kind[v_at], head[v_at], p_count[v_at], p_time[v_at], c ->> 'actor',
            (
                SELECT m.role
                FROM parlance_message.members AS m
                WHERE m.conversation_id = p_conversations[v_at] AND m.user_id = c ->> 'actor'
            )
        );
        v_outcome := CASE
            WHEN v_on.conversation_kind = -1 THEN 7
            WHEN v_on.conversation_kind = 0 THEN 4
            WHEN v_on.actor_role IS NULL AND v_on.conversation_kind <> 3 THEN 4
            WHEN v_on.actor_role IS NULL
                AND NOT (v_kind = 'add' AND c -> 'users' = jsonb_build_array(v_on.actor_id)) THEN 5
            WHEN v_on.conversation_kind = 1
                AND v_kind IN ('add', 'remove', 'role', 'succession', 'title', 'conversation') THEN 8
        END;
        IF v_outcome IS NULL THEN
            CASE v_kind
                WHEN 'edit' THEN r := parlance_message.change_message_edited_v1(v_on, c);
                WHEN 'delete' THEN r := parlance_message.change_message_deleted_v1(v_on, c);
                WHEN 'add' THEN r := parlance_message.change_member_joined_v1(v_on, c);
                WHEN 'remove' THEN r := parlance_message.change_member_left_v1(v_on, c);
                WHEN 'role' THEN r := parlance_message.change_member_updated_v1(v_on, c);
                WHEN 'succession' THEN r := parlance_message.change_owner_succeeded_v1(v_on, c);
                WHEN 'title', 'conversation' THEN r := parlance_message.change_conversation_updated_v1(v_on, c);
                ELSE
                    RAISE EXCEPTION 'unknown kind of change: %', v_kind USING ERRCODE = 'invalid_parameter_value';
            END CASE;
            v_outcome := r.outcome;
            head[v_at] := r.head;
            added := added || r.added;
        END IF;
        change_outcome := change_outcome || v_outcome;
    END LOOP;
END;
$$;

-- What append_v1 calls.
CREATE OR REPLACE FUNCTION parlance_message.append_changes_v1(
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
BEGIN
    SELECT a.change_outcome, a.head, a.added
    INTO change_outcome, head, added
    FROM parlance_message.append_changes_v3(p_conversations, p_kind, p_head, p_count, p_time, p_changes) AS a;
END;
$$;
