-- Why: what all replicas must agree on. First of all the key that page tokens are signed with: a token made by one
-- replica has to be good on every other.
-- Locks: nothing, the table is new.
-- Undo: DROP TABLE parlance_user.settings; page tokens given out before are refused then.

CREATE TABLE parlance_user.settings (
    name  text COLLATE "C" NOT NULL,
    value bytea NOT NULL,

    CONSTRAINT settings_pkey PRIMARY KEY (name),
    CONSTRAINT settings_page_token_key_check CHECK (name <> 'page_token_key' OR octet_length(value) = 32)
);

-- 244 bits of PostgreSQL's strong random numbers, without an extension.
INSERT INTO parlance_user.settings (name, value)
VALUES ('page_token_key', sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())));
