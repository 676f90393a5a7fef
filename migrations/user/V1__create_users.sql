-- Why: the accounts. One row per user id for ever: a deleted user stays as a row without personal fields, so that its id
-- is never given to anybody else.
-- Locks: nothing, the table is new.
-- Undo: DROP TABLE parlance_user.users; the accounts are gone then.

CREATE TABLE parlance_user.users (
    user_id      text COLLATE "C" NOT NULL,
    -- As the user writes it; empty once deleted.
    username     text COLLATE "C" NOT NULL,
    -- What makes names unique regardless of case and orders lists. No name contains a tilde, and it sorts behind
    -- everything that a name may contain: a deleted user is out of the way of names and behind them all.
    username_key text COLLATE "C" NOT NULL,
    display_name text NOT NULL,
    state        text COLLATE "C" NOT NULL,
    -- Counts the changes, beginning with 1; the etag is made of it.
    version      bigint NOT NULL,
    -- Set when the creator gave one. The hash is what a repeat is compared with; it goes with the personal fields, since
    -- names can be guessed from it.
    request_id   text COLLATE "C",
    request_hash bytea,
    created_at   timestamptz NOT NULL,
    updated_at   timestamptz NOT NULL,
    deleted_at   timestamptz,

    -- The service matches on these three names.
    CONSTRAINT users_pkey PRIMARY KEY (user_id),
    CONSTRAINT users_username_key_key UNIQUE (username_key),
    CONSTRAINT users_request_id_key UNIQUE (request_id),

    CONSTRAINT users_user_id_check CHECK (user_id ~ '^[A-Za-z0-9._-][A-Za-z0-9._~-]{0,63}$'),
    CONSTRAINT users_state_check CHECK (state IN ('active', 'deactivated', 'deleted')),
    CONSTRAINT users_username_check CHECK (
        CASE WHEN state = 'deleted' THEN username = '' ELSE username ~ '^[A-Za-z0-9._-]{1,64}$' END
    ),
    CONSTRAINT users_username_key_check CHECK (
        username_key = CASE WHEN state = 'deleted' THEN '~' || user_id ELSE lower(username) END
    ),
    CONSTRAINT users_display_name_check CHECK (
        CASE WHEN state = 'deleted' THEN display_name = '' ELSE char_length(display_name) <= 256 END
    ),
    CONSTRAINT users_version_check CHECK (version >= 1),
    CONSTRAINT users_request_id_check CHECK (char_length(request_id) BETWEEN 1 AND 64),
    CONSTRAINT users_request_hash_check CHECK (
        request_hash IS NULL OR (request_id IS NOT NULL AND octet_length(request_hash) = 16)
    ),
    CONSTRAINT users_updated_at_check CHECK (updated_at >= created_at),
    CONSTRAINT users_deleted_at_check CHECK ((state = 'deleted') = (deleted_at IS NOT NULL))
);
