-- Why: the tables of message-service. A conversation is one dense log; `messages` holds the entries that are new messages,
-- `changes` all others, and `conversations` the counter row that is locked to commit by whatever takes a sequence.
-- Locks: nothing that exists. Undo: DROP SCHEMA parlance_message CASCADE.
--
-- No foreign keys and no triggers: users live with user-service, and what references a conversation is written only by
-- the functions that hold its row. `conversation_id` leads every key of the log, so that it can be the key of a
-- distributed table one day. Ids compare by bytes (COLLATE "C"), which is also the order in which rows are locked.

CREATE TABLE parlance_message.conversations (
    conversation_id text COLLATE "C" NOT NULL,
    kind smallint NOT NULL,
    title text NOT NULL,
    creator_id text COLLATE "C" NOT NULL,
    -- Moves with the title; the etag is made of it.
    version bigint NOT NULL DEFAULT 1,
    oldest_sequence bigint NOT NULL DEFAULT 1,
    last_sequence bigint NOT NULL,
    message_count bigint NOT NULL DEFAULT 0,
    last_message_sequence bigint NOT NULL DEFAULT 0,
    last_message_at timestamptz,
    -- Time of the last entry of any kind: the next one is never earlier.
    last_entry_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT conversations_pkey PRIMARY KEY (conversation_id),
    CONSTRAINT conversations_conversation_id_check CHECK (conversation_id ~ '^[A-Za-z0-9._~-]{1,64}$'),
    CONSTRAINT conversations_kind_check CHECK (kind BETWEEN 1 AND 3),
    CONSTRAINT conversations_title_check CHECK (char_length(title) <= 256),
    CONSTRAINT conversations_sequence_check CHECK (
        oldest_sequence >= 1 AND last_sequence >= oldest_sequence - 1
        AND message_count BETWEEN 0 AND last_sequence AND last_message_sequence BETWEEN 0 AND last_sequence
    ),
    CONSTRAINT conversations_time_check CHECK (last_entry_at >= created_at)
) WITH (
    -- Every send updates the row: room for the next version on the same page keeps the update out of the index, as long
    -- as no index covers what a send changes.
    fillfactor = 50,
    autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_vacuum_threshold = 1000
);

-- One row for each CreateConversation, so that a repeat finds what the first made. Apart from `conversations`, since its
-- key is the creator's.
CREATE TABLE parlance_message.conversation_requests (
    creator_id text COLLATE "C" NOT NULL,
    request_id text COLLATE "C" NOT NULL,
    request_hash bytea NOT NULL,
    conversation_id text COLLATE "C" NOT NULL,
    CONSTRAINT conversation_requests_pkey PRIMARY KEY (creator_id, request_id),
    CONSTRAINT conversation_requests_request_hash_check CHECK (octet_length(request_hash) = 16)
);

CREATE TABLE parlance_message.members (
    conversation_id text COLLATE "C" NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    role smallint NOT NULL,
    -- The entry by which the member (last) joined.
    join_sequence bigint NOT NULL,
    joined_at timestamptz NOT NULL,
    last_read_sequence bigint NOT NULL,
    -- How many messages had been sent up to the read mark: unread = message_count - last_read_ordinal.
    last_read_ordinal bigint NOT NULL,
    CONSTRAINT members_pkey PRIMARY KEY (conversation_id, user_id),
    CONSTRAINT members_role_check CHECK (role BETWEEN 1 AND 3),
    CONSTRAINT members_read_check CHECK (
        join_sequence >= 1 AND last_read_sequence >= 0 AND last_read_ordinal BETWEEN 0 AND last_read_sequence
    )
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000);

CREATE INDEX members_user_id_conversation_id_idx ON parlance_message.members (user_id, conversation_id);

-- Whether somebody is the last owner is asked with the conversation locked: not by reading all its members.
CREATE INDEX members_owners_idx ON parlance_message.members (conversation_id, user_id) WHERE role = 1;

CREATE TABLE parlance_message.messages (
    conversation_id text COLLATE "C" NOT NULL,
    sequence bigint NOT NULL,
    ordinal bigint NOT NULL,
    sender_id text COLLATE "C" NOT NULL,
    request_id text COLLATE "C" NOT NULL,
    -- Over text, attributes and reply at the time of the send; NULL after a deletion, and then not compared.
    request_hash bytea,
    text text NOT NULL,
    attributes jsonb,
    reply_to_sequence bigint,
    created_at timestamptz NOT NULL,
    edited_at timestamptz,
    deleted_at timestamptz,
    change_sequence bigint NOT NULL,
    CONSTRAINT messages_pkey PRIMARY KEY (conversation_id, sequence),
    CONSTRAINT messages_request_id_key UNIQUE (conversation_id, sender_id, request_id),
    CONSTRAINT messages_ordinal_check CHECK (ordinal BETWEEN 1 AND sequence),
    CONSTRAINT messages_text_check CHECK (
        octet_length(text) <= 16384 AND (octet_length(text) > 0) = (deleted_at IS NULL)
    ),
    CONSTRAINT messages_request_hash_check CHECK (
        CASE WHEN deleted_at IS NULL THEN octet_length(request_hash) = 16 ELSE request_hash IS NULL END
    ),
    CONSTRAINT messages_tombstone_check CHECK (deleted_at IS NULL OR attributes IS NULL),
    CONSTRAINT messages_change_sequence_check CHECK (change_sequence >= sequence)
);

CREATE TABLE parlance_message.changes (
    conversation_id text COLLATE "C" NOT NULL,
    sequence bigint NOT NULL,
    -- 1 message_edited, 2 message_deleted, 3 member_joined, 4 member_left, 5 member_updated, 6 conversation_updated.
    kind smallint NOT NULL,
    actor_id text COLLATE "C" NOT NULL,
    target_sequence bigint,
    user_id text COLLATE "C",
    role smallint,
    joined_at timestamptz,
    title text,
    version bigint,
    created_at timestamptz NOT NULL,
    CONSTRAINT changes_pkey PRIMARY KEY (conversation_id, sequence),
    CONSTRAINT changes_kind_check CHECK (
        CASE
            WHEN kind IN (1, 2) THEN target_sequence < sequence
            WHEN kind IN (3, 4, 5) THEN user_id IS NOT NULL AND role BETWEEN 1 AND 3 AND joined_at IS NOT NULL
            WHEN kind = 6 THEN title IS NOT NULL AND version IS NOT NULL
            ELSE false
        END
    )
);

-- One row for each committed transaction that took a sequence, read by the other replicas and short-lived. Read by
-- transaction id against the snapshot of the reader's last look, which is exact however late a transaction commits.
CREATE TABLE parlance_message.outbox (
    outbox_id bigint GENERATED ALWAYS AS IDENTITY,
    xact_id xid8 NOT NULL DEFAULT pg_current_xact_id(),
    conversation_ids text[] NOT NULL,
    last_sequences bigint[] NOT NULL,
    -- Who was added to a conversation in this transaction.
    user_ids text[] NOT NULL,
    created_at timestamptz NOT NULL,
    CONSTRAINT outbox_pkey PRIMARY KEY (outbox_id),
    CONSTRAINT outbox_length_check CHECK (cardinality(conversation_ids) = cardinality(last_sequences))
);

CREATE INDEX outbox_xact_id_idx ON parlance_message.outbox (xact_id);

-- What all replicas share: the key of page tokens.
CREATE TABLE parlance_message.settings (
    only_row boolean NOT NULL DEFAULT true,
    page_token_key bytea NOT NULL,
    CONSTRAINT settings_pkey PRIMARY KEY (only_row),
    CONSTRAINT settings_only_row_check CHECK (only_row),
    CONSTRAINT settings_page_token_key_check CHECK (octet_length(page_token_key) = 32)
);

INSERT INTO parlance_message.settings (page_token_key)
VALUES (sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8')));
