-- Why: sequences alone cannot show that the log was set back (an asynchronous standby that lacked the last commits, a
-- restored backup): the lost numbers are given out again. An epoch names a log that was never set back; a client returns
-- the epoch of its positions, and the service knows which of them survived.
-- Locks: none on existing tables.
-- Undo: DROP FUNCTION parlance_message.enter_epoch_v1, parlance_message.server_v1, parlance_message.installation_v1;
-- DROP TABLE parlance_message.epochs.

CREATE TABLE parlance_message.epochs (
    -- The order of epochs.
    epoch_id bigint GENERATED ALWAYS AS IDENTITY,
    -- The name that clients see: random, so that an epoch that was lost itself is never taken for a later one.
    epoch text NOT NULL,
    server text NOT NULL,
    -- Every entry of this epoch is younger; every entry of an earlier epoch that survived is older.
    began_at timestamptz NOT NULL,
    CONSTRAINT epochs_pkey PRIMARY KEY (epoch_id),
    CONSTRAINT epochs_epoch_key UNIQUE (epoch),
    CONSTRAINT epochs_server_key UNIQUE (server)
);

-- This database and all its standbys, but no copy that was restored from a dump. A server that hides its identifier
-- contributes what it shows.
CREATE FUNCTION parlance_message.installation_v1() RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_identifier text := '';
BEGIN
    BEGIN
        SELECT system_identifier INTO v_identifier FROM pg_control_system();
    EXCEPTION WHEN insufficient_privilege OR undefined_function OR feature_not_supported THEN
        NULL;
    END;
    RETURN concat_ws(
        '/',
        v_identifier,
        (SELECT oid FROM pg_database WHERE datname = current_database()),
        'parlance_message.epochs'::regclass::oid
    );
END
$$;

-- The history of PostgreSQL that this database is part of. It changes when a standby is promoted or a backup is restored,
-- not when the server restarts.
CREATE FUNCTION parlance_message.server_v1() RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_timeline text := '';
BEGIN
    BEGIN
        v_timeline := substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8);
    EXCEPTION WHEN insufficient_privilege OR undefined_function OR feature_not_supported THEN
        NULL;
    END;
    RETURN concat_ws('/', parlance_message.installation_v1(), v_timeline);
END
$$;

-- Returns the current epoch, which it begins if this is a new history. A connection calls it before its first append, so
-- an epoch begins before its first entry. Fails on a standby.
CREATE FUNCTION parlance_message.enter_epoch_v1() RETURNS text
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_server text;
    v_epoch text;
BEGIN
    IF pg_is_in_recovery() THEN
        RAISE read_only_sql_transaction USING MESSAGE = 'the server is a standby';
    END IF;
    v_server := parlance_message.server_v1();
    LOOP
        SELECT e.epoch INTO v_epoch FROM parlance_message.epochs AS e WHERE e.server = v_server;
        IF FOUND THEN
            RETURN v_epoch;
        END IF;
        INSERT INTO parlance_message.epochs (epoch, server, began_at)
        VALUES (gen_random_uuid()::text, v_server, clock_timestamp())
        ON CONFLICT DO NOTHING;
    END LOOP;
END
$$;
