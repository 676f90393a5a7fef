-- Why: who watches users has to hear of every change, whichever replica made it. A row for each change, written by a
-- trigger in the transaction of the change: a binary from before this migration, or a hand with psql, is heard of, too.
-- Locks: parlance_user.users against writes, for the moment that it takes to add a trigger.
-- Undo: DROP TRIGGER users_outbox_trigger ON parlance_user.users; DROP FUNCTION parlance_user.note_change_v1;
-- DROP TABLE parlance_user.outbox; nobody hears of changes then.

CREATE TABLE parlance_user.outbox (
    outbox_id  bigint GENERATED ALWAYS AS IDENTITY,
    -- What a snapshot is asked about: rows become visible in the order of commits, not of outbox_id.
    xact_id    xid8 NOT NULL DEFAULT pg_current_xact_id(),
    user_id    text COLLATE "C" NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),

    CONSTRAINT outbox_pkey PRIMARY KEY (outbox_id)
);

CREATE INDEX outbox_xact_id_idx ON parlance_user.outbox (xact_id);

CREATE FUNCTION parlance_user.note_change_v1()
RETURNS trigger
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    INSERT INTO parlance_user.outbox (user_id) VALUES (NEW.user_id);
    RETURN NULL;
END
$$;

CREATE TRIGGER users_outbox_trigger
AFTER INSERT OR UPDATE ON parlance_user.users
FOR EACH ROW EXECUTE FUNCTION parlance_user.note_change_v1();
