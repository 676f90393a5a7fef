-- Why: every write is one call in autocommit, so that no lock is held over a round trip and a caller that hangs up never
-- leaves half a write. Each function answers with an outcome and the row as it is after it.
-- Locks: nothing.
-- Undo: DROP FUNCTION parlance_user.create_user_v1, parlance_user.update_user_v1, parlance_user.set_user_state_v1,
-- parlance_user.delete_user_v1.
--
-- The functions are VOLATILE on purpose: each statement in them sees what was committed before it began, so what is read
-- after a lock or a conflict is what the lock or the conflict was about. A changed function gets a new version in its
-- name: old and new binaries run side by side during a deploy.

-- Outcomes: created; repeated (the request was served before: the user as it is now); request_id_reused;
-- user_id_taken; username_taken.
CREATE FUNCTION parlance_user.create_user_v1(
    given_user_id      text,
    given_username     text,
    given_display_name text,
    given_request_id   text,
    given_request_hash bytea,
    OUT outcome text,
    OUT account parlance_user.users
)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    given_key text := lower(given_username COLLATE "C");
    moment    timestamptz := clock_timestamp();
BEGIN
    FOR attempt IN 1..10 LOOP
        -- Waits for others that are inserting the same id, name or request, and does nothing if they commit.
        INSERT INTO parlance_user.users (
            user_id, username, username_key, display_name, state, version, request_id, request_hash, created_at, updated_at
        )
        VALUES (
            given_user_id, given_username, given_key, given_display_name, 'active', 1, given_request_id,
            given_request_hash, moment, moment
        )
        ON CONFLICT DO NOTHING
        RETURNING * INTO account;
        IF FOUND THEN
            outcome := 'created';
            RETURN;
        END IF;

        -- One statement, so that all three questions are put to one snapshot. The request comes first: its own first
        -- attempt has the id and the name, too.
        SELECT * INTO account
        FROM parlance_user.users
        WHERE request_id = given_request_id OR user_id = given_user_id OR username_key = given_key
        ORDER BY (request_id = given_request_id) IS TRUE DESC, user_id = given_user_id DESC, user_id
        LIMIT 1;
        IF FOUND THEN
            outcome := CASE
                WHEN account.request_id = given_request_id THEN
                    -- Of a deleted user there is nothing left to compare with.
                    CASE WHEN account.request_hash <> given_request_hash THEN 'request_id_reused' ELSE 'repeated' END
                WHEN account.user_id = given_user_id THEN 'user_id_taken'
                ELSE 'username_taken'
            END;
            RETURN;
        END IF;
        -- The name was given up between the two statements: it is ours to take.
    END LOOP;
    RAISE EXCEPTION 'the name changed hands ten times' USING ERRCODE = 'serialization_failure';
END
$$;

-- A NULL among the fields leaves that field as it is; a NULL version is not compared.
-- Outcomes: changed; unchanged; not_found; deleted; version_mismatch. A taken name violates users_username_key_key.
CREATE FUNCTION parlance_user.update_user_v1(
    given_user_id      text,
    given_username     text,
    given_display_name text,
    given_version      bigint,
    OUT outcome text,
    OUT account parlance_user.users
)
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    SELECT * INTO account FROM parlance_user.users WHERE user_id = given_user_id FOR UPDATE;
    IF NOT FOUND THEN
        outcome := 'not_found';
    ELSIF account.state = 'deleted' THEN
        outcome := 'deleted';
    ELSIF account.version <> given_version THEN
        outcome := 'version_mismatch';
    ELSIF account.username = coalesce(given_username, account.username)
        AND account.display_name = coalesce(given_display_name, account.display_name) THEN
        outcome := 'unchanged';
    ELSE
        UPDATE parlance_user.users
        SET username = coalesce(given_username, username),
            username_key = coalesce(lower(given_username COLLATE "C"), username_key),
            display_name = coalesce(given_display_name, display_name),
            version = version + 1,
            updated_at = greatest(clock_timestamp(), updated_at)
        WHERE user_id = given_user_id
        RETURNING * INTO account;
        outcome := 'changed';
    END IF;
END
$$;

-- Outcomes: changed; unchanged; not_found; deleted.
CREATE FUNCTION parlance_user.set_user_state_v1(
    given_user_id text,
    given_state   text,
    OUT outcome text,
    OUT account parlance_user.users
)
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    SELECT * INTO account FROM parlance_user.users WHERE user_id = given_user_id FOR UPDATE;
    IF NOT FOUND THEN
        outcome := 'not_found';
    ELSIF account.state = 'deleted' THEN
        outcome := 'deleted';
    ELSIF account.state = given_state THEN
        outcome := 'unchanged';
    ELSE
        UPDATE parlance_user.users
        SET state = given_state, version = version + 1, updated_at = greatest(clock_timestamp(), updated_at)
        WHERE user_id = given_user_id
        RETURNING * INTO account;
        outcome := 'changed';
    END IF;
END
$$;

-- Erases the personal fields and frees the name. A user deleted before is answered as it is, whatever the version.
-- Outcomes: changed; unchanged; not_found; version_mismatch.
CREATE FUNCTION parlance_user.delete_user_v1(
    given_user_id text,
    given_version bigint,
    OUT outcome text,
    OUT account parlance_user.users
)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    moment timestamptz;
BEGIN
    SELECT * INTO account FROM parlance_user.users WHERE user_id = given_user_id FOR UPDATE;
    IF NOT FOUND THEN
        outcome := 'not_found';
    ELSIF account.state = 'deleted' THEN
        outcome := 'unchanged';
    ELSIF account.version <> given_version THEN
        outcome := 'version_mismatch';
    ELSE
        moment := greatest(clock_timestamp(), account.updated_at);
        UPDATE parlance_user.users
        SET username = '',
            username_key = '~' || user_id,
            display_name = '',
            state = 'deleted',
            version = version + 1,
            request_hash = NULL,
            updated_at = moment,
            deleted_at = moment
        WHERE user_id = given_user_id
        RETURNING * INTO account;
        outcome := 'changed';
    END IF;
END
$$;
