-- Why: a conversation gets a description, an avatar and attributes. Each kind of change becomes a function of its own, so
-- that a new kind is a new function and one line of append_changes_v2, and keeps what is particular to it in
-- `changes.detail`. may_v1 is the one table of what each role may do. `consumers` is for durable readers of the log.
-- Locks: `conversations` and `changes`, ACCESS EXCLUSIVE, for milliseconds: every default is a constant, so no row is
-- rewritten, and existing rows are not checked here (V4 does that). The lock is requested for 200 ms at a time, since
-- every send queues behind the request; while a backup or a long query holds it off, sends continue in between.
-- Old binaries run beside this: append_v1 is as before, and append_changes_v1, which it calls, now calls
-- append_changes_v2.
-- Undo: CREATE OR REPLACE append_changes_v1 as in V2; DROP FUNCTION append_changes_v2, change_*_v1, may_v1; DROP TYPE
-- change_context; DROP TABLE consumers; drop the four columns, with their contents, and the constraints on `changes`
-- added here; add changes_kind_check as in V1.

DO $$
BEGIN
    PERFORM set_config('lock_timeout', '200ms', true);
    -- About a minute: others that wait for this migration give up after two.
    FOR v_try IN 1..50 LOOP
        BEGIN
            LOCK TABLE parlance_message.conversations, parlance_message.changes IN ACCESS EXCLUSIVE MODE;
            EXIT;
        EXCEPTION WHEN lock_not_available THEN
            IF v_try = 50 THEN
                RAISE;
            END IF;
            PERFORM pg_sleep(1);
        END;
    END LOOP;
END;
$$;

-- No index covers these, so a send's update of the row stays out of the indexes. The checks run at every send, too: a
-- length in bytes is known without fetching a value that is stored out of line.
ALTER TABLE parlance_message.conversations
    ADD COLUMN description text NOT NULL DEFAULT '',
    ADD COLUMN avatar_url text NOT NULL DEFAULT '',
    -- NULL = none.
    ADD COLUMN attributes jsonb,
    ADD CONSTRAINT conversations_description_check CHECK (
        octet_length(description) <= 1024 OR char_length(description) <= 1024
    ) NOT VALID,
    ADD CONSTRAINT conversations_avatar_url_check CHECK (octet_length(avatar_url) <= 2048) NOT VALID;

-- One constraint for each group of kinds, in place of one for all. A new kind replaces changes_kind_check and adds a
-- constraint that begins with "kind <> n OR", both NOT VALID and validated in a migration after it.
ALTER TABLE parlance_message.changes
    ADD COLUMN detail jsonb,
    DROP CONSTRAINT changes_kind_check,
    ADD CONSTRAINT changes_kind_check CHECK (kind BETWEEN 1 AND 6) NOT VALID,
    ADD CONSTRAINT changes_message_check CHECK (kind NOT IN (1, 2) OR target_sequence < sequence) NOT VALID,
    ADD CONSTRAINT changes_member_check CHECK (
        kind NOT IN (3, 4, 5) OR (user_id IS NOT NULL AND role BETWEEN 1 AND 3 AND joined_at IS NOT NULL)
    ) NOT VALID,
    -- Entries from before this migration have no detail.
    ADD CONSTRAINT changes_conversation_check CHECK (
        kind <> 6 OR (
            title IS NOT NULL AND version IS NOT NULL AND (
                detail IS NULL OR coalesce(
                    jsonb_typeof(detail -> 'description') = 'string'
                    AND jsonb_typeof(detail -> 'avatar_url') = 'string'
                    AND jsonb_typeof(detail -> 'attributes') = 'object',
                    false
                )
            )
        )
    ) NOT VALID;

-- Named durable positions of readers of the log (search, webhooks, push, …): a reader stores its position in the
-- transaction that stores what it did with what it read, or after it. Deleting a row makes that reader begin again.
CREATE TABLE parlance_message.consumers (
    name text COLLATE "C" NOT NULL,
    -- What the reader has read: the server's identity and a snapshot, as text.
    position text NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT consumers_pkey PRIMARY KEY (name)
) WITH (fillfactor = 50);

-- Returns whether a member of a role may use a verb. An unknown role or verb may do nothing.
-- Roles: 1 owner, 2 admin, 3 member. The target is the role granted (add_member) or the role of the member acted on
-- (remove_member); other verbs have none. Leaving is open to every member, reading and joining a CHANNEL to every user:
-- they take no role. Stories hold this against the documented table. Inlined by the planner: one expression, no call.
CREATE FUNCTION parlance_message.may_v1(p_actor_role smallint, p_verb text, p_target_role smallint)
RETURNS boolean
LANGUAGE sql
IMMUTABLE
PARALLEL SAFE
RETURN coalesce(
    CASE p_verb
        WHEN 'read' THEN p_actor_role IN (1, 2, 3)
        WHEN 'send_message' THEN p_actor_role IN (1, 2, 3)
        WHEN 'edit_own_message' THEN p_actor_role IN (1, 2, 3)
        WHEN 'delete_own_message' THEN p_actor_role IN (1, 2, 3)
        WHEN 'delete_message' THEN p_actor_role IN (1, 2)
        WHEN 'update_conversation' THEN p_actor_role IN (1, 2)
        WHEN 'add_member' THEN p_actor_role = 1 OR (p_actor_role = 2 AND p_target_role = 3)
        WHEN 'remove_member' THEN p_actor_role = 1 OR (p_actor_role = 2 AND p_target_role = 3)
        WHEN 'update_role' THEN p_actor_role = 1
    END,
    false
);

-- What a change acts on, the same for all kinds. The conversation is locked.
CREATE TYPE parlance_message.change_context AS (
    conversation_id text,
    conversation_kind smallint,
    -- The last sequence taken.
    head bigint,
    -- Up to that sequence.
    message_count bigint,
    -- The time of every entry of this transaction in this conversation.
    entry_time timestamptz,
    actor_id text,
    -- NULL only for a user that joins a CHANNEL by itself.
    actor_role smallint
);

-- One function for each kind of change. Each takes the context and the change, stores the change with its entries, and
-- returns the outcome (as in append_v1), the last sequence then taken, and the users added (NULL = none).

-- {"kind": "edit", "sequence", "text"?, "attributes"?}: an absent field stays, attributes {} = none.
CREATE FUNCTION parlance_message.change_message_edited_v1(
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
    WHERE m.conversation_id = p_on.conversation_id AND m.sequence = (p_change ->> 'sequence')::bigint;
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
        WHERE m.conversation_id = p_on.conversation_id AND m.sequence = v_message.sequence;
        INSERT INTO parlance_message.changes (conversation_id, sequence, kind, actor_id, target_sequence, created_at)
        VALUES (p_on.conversation_id, head, 1, p_on.actor_id, v_message.sequence, p_on.entry_time);
    END IF;
END;
$$;

-- {"kind": "delete", "sequence"}
CREATE FUNCTION parlance_message.change_message_deleted_v1(
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
    WHERE m.conversation_id = p_on.conversation_id AND m.sequence = (p_change ->> 'sequence')::bigint;
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
        WHERE m.conversation_id = p_on.conversation_id AND m.sequence = v_message.sequence;
        INSERT INTO parlance_message.changes (conversation_id, sequence, kind, actor_id, target_sequence, created_at)
        VALUES (p_on.conversation_id, head, 2, p_on.actor_id, v_message.sequence, p_on.entry_time);
    END IF;
END;
$$;

-- {"kind": "add", "users": […], "role"}: an entry for each user that is no member yet.
CREATE FUNCTION parlance_message.change_member_joined_v1(
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
    v_role smallint := (p_change ->> 'role')::smallint;
    -- Any user joins a CHANNEL as a plain member.
    v_joins boolean := p_on.conversation_kind = 3 AND v_role = 3
        AND p_change -> 'users' = jsonb_build_array(p_on.actor_id);
    v_user text;
BEGIN
    head := p_on.head;
    IF NOT v_joins AND NOT parlance_message.may_v1(p_on.actor_role, 'add_member', v_role) THEN
        outcome := 9;
        RETURN;
    END IF;
    FOR v_user IN
        SELECT u.value
        FROM jsonb_array_elements_text(p_change -> 'users') WITH ORDINALITY AS u (value, n)
        WHERE NOT EXISTS (
            SELECT FROM parlance_message.members AS m
            WHERE m.conversation_id = p_on.conversation_id AND m.user_id = u.value
        )
        ORDER BY u.n
    LOOP
        head := head + 1;
        added := added || v_user;
        -- A new member has read everything up to the join.
        INSERT INTO parlance_message.members (
            conversation_id, user_id, role, join_sequence, joined_at, last_read_sequence, last_read_ordinal
        ) VALUES (p_on.conversation_id, v_user, v_role, head, p_on.entry_time, head, p_on.message_count);
        INSERT INTO parlance_message.changes (
            conversation_id, sequence, kind, actor_id, user_id, role, joined_at, created_at
        ) VALUES (p_on.conversation_id, head, 3, p_on.actor_id, v_user, v_role, p_on.entry_time, p_on.entry_time);
    END LOOP;
    outcome := CASE WHEN head > p_on.head THEN 1 ELSE 2 END;
END;
$$;

-- {"kind": "remove", "user"}: a user that is the actor leaves.
CREATE FUNCTION parlance_message.change_member_left_v1(
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
    v_user text := p_change ->> 'user';
    v_leaves boolean := v_user = p_on.actor_id;
    v_member parlance_message.members;
BEGIN
    head := p_on.head;
    SELECT m.* INTO v_member
    FROM parlance_message.members AS m
    WHERE m.conversation_id = p_on.conversation_id AND m.user_id = v_user;
    outcome := CASE
        -- First: an actor that may not even remove a plain member does not learn who is one.
        WHEN NOT v_leaves AND NOT parlance_message.may_v1(p_on.actor_role, 'remove_member', 3::smallint) THEN 9
        WHEN v_member.user_id IS NULL THEN 10
        WHEN NOT v_leaves AND NOT parlance_message.may_v1(p_on.actor_role, 'remove_member', v_member.role) THEN 9
        -- The last owner leaves only as the last member.
        WHEN v_member.role = 1
            AND NOT EXISTS (
                SELECT FROM parlance_message.members AS m
                WHERE m.conversation_id = p_on.conversation_id AND m.role = 1 AND m.user_id <> v_user
            )
            AND EXISTS (
                SELECT FROM parlance_message.members AS m
                WHERE m.conversation_id = p_on.conversation_id AND m.user_id <> v_user
            )
        THEN 11
        ELSE 1
    END;
    IF outcome = 1 THEN
        head := head + 1;
        DELETE FROM parlance_message.members AS m
        WHERE m.conversation_id = p_on.conversation_id AND m.user_id = v_user;
        INSERT INTO parlance_message.changes (
            conversation_id, sequence, kind, actor_id, user_id, role, joined_at, created_at
        ) VALUES (
            p_on.conversation_id, head, 4, p_on.actor_id, v_user, v_member.role, v_member.joined_at, p_on.entry_time
        );
    END IF;
END;
$$;

-- {"kind": "role", "user", "role"}
CREATE FUNCTION parlance_message.change_member_updated_v1(
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
    v_user text := p_change ->> 'user';
    v_role smallint := (p_change ->> 'role')::smallint;
    v_member parlance_message.members;
BEGIN
    head := p_on.head;
    SELECT m.* INTO v_member
    FROM parlance_message.members AS m
    WHERE m.conversation_id = p_on.conversation_id AND m.user_id = v_user;
    outcome := CASE
        WHEN NOT parlance_message.may_v1(p_on.actor_role, 'update_role', v_member.role) THEN 9
        WHEN v_member.user_id IS NULL THEN 10
        WHEN v_member.role = v_role THEN 2
        WHEN v_member.role = 1
            AND NOT EXISTS (
                SELECT FROM parlance_message.members AS m
                WHERE m.conversation_id = p_on.conversation_id AND m.role = 1 AND m.user_id <> v_user
            )
        THEN 11
        ELSE 1
    END;
    IF outcome = 1 THEN
        head := head + 1;
        UPDATE parlance_message.members AS m
        SET role = v_role
        WHERE m.conversation_id = p_on.conversation_id AND m.user_id = v_user;
        INSERT INTO parlance_message.changes (
            conversation_id, sequence, kind, actor_id, user_id, role, joined_at, created_at
        ) VALUES (p_on.conversation_id, head, 5, p_on.actor_id, v_user, v_role, v_member.joined_at, p_on.entry_time);
    END IF;
END;
$$;

-- {"kind": "conversation", "title"?, "description"?, "avatar_url"?, "attributes"?, "version"?}: what is absent or null
-- stays, attributes {} = none, version = the one expected. The entry holds everything as it is afterwards. Old binaries
-- send {"kind": "title", "title", "version"}.
CREATE FUNCTION parlance_message.change_conversation_updated_v1(
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
    v_old parlance_message.conversations;
    v_new parlance_message.conversations;
BEGIN
    head := p_on.head;
    SELECT c.* INTO v_old
    FROM parlance_message.conversations AS c
    WHERE c.conversation_id = p_on.conversation_id;
    v_new := v_old;
    v_new.title := coalesce(p_change ->> 'title', v_old.title);
    v_new.description := coalesce(p_change ->> 'description', v_old.description);
    v_new.avatar_url := coalesce(p_change ->> 'avatar_url', v_old.avatar_url);
    IF p_change ->> 'attributes' IS NOT NULL THEN
        v_new.attributes := nullif(p_change -> 'attributes', '{}');
    END IF;
    outcome := CASE
        WHEN NOT parlance_message.may_v1(p_on.actor_role, 'update_conversation', NULL) THEN 9
        WHEN (p_change ->> 'version')::bigint <> v_old.version THEN 14
        WHEN v_new IS NOT DISTINCT FROM v_old THEN 2
        ELSE 1
    END;
    IF outcome = 1 THEN
        head := head + 1;
        v_new.version := v_old.version + 1;
        UPDATE parlance_message.conversations AS c
        SET title = v_new.title, description = v_new.description, avatar_url = v_new.avatar_url,
            attributes = v_new.attributes, version = v_new.version, updated_at = p_on.entry_time
        WHERE c.conversation_id = p_on.conversation_id;
        INSERT INTO parlance_message.changes (
            conversation_id, sequence, kind, actor_id, title, version, detail, created_at
        ) VALUES (
            p_on.conversation_id, head, 6, p_on.actor_id, v_new.title, v_new.version,
            jsonb_build_object(
                'description', v_new.description,
                'avatar_url', v_new.avatar_url,
                'attributes', coalesce(v_new.attributes, '{}')
            ),
            p_on.entry_time
        );
    END IF;
END;
$$;

-- Applies what is not a message, for append_v1, which has locked the conversations. Changes are an array of
-- {"c": position of the conversation, "kind", "actor", …}, the rest as described at the kind's function. Changes of one
-- call see each other. Refuses what every kind refuses, then calls the kind's function. An unknown kind raises, and
-- nothing of the call is stored.
CREATE FUNCTION parlance_message.append_changes_v2(
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
                AND v_kind IN ('add', 'remove', 'role', 'title', 'conversation') THEN 8
        END;
        IF v_outcome IS NULL THEN
            CASE v_kind
                WHEN 'edit' THEN r := parlance_message.change_message_edited_v1(v_on, c);
                WHEN 'delete' THEN r := parlance_message.change_message_deleted_v1(v_on, c);
                WHEN 'add' THEN r := parlance_message.change_member_joined_v1(v_on, c);
                WHEN 'remove' THEN r := parlance_message.change_member_left_v1(v_on, c);
                WHEN 'role' THEN r := parlance_message.change_member_updated_v1(v_on, c);
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
    FROM parlance_message.append_changes_v2(p_conversations, p_kind, p_head, p_count, p_time, p_changes) AS a;
END;
$$;
