-- Why: a data directory that was put back to an older copy was the same server as before, so that its epoch went on, and the
-- numbers of lost entries were given out again without notice. Now every start of PostgreSQL begins an epoch. Positions that
-- survived continue in it: a stream stays open where the replica finds the heads of all followed conversations unharmed.
-- Locks: one row of parlance_message.epochs, which running services only read.
-- Old binaries run beside this: they call enter_epoch_v1, which calls the replaced server_v1, and end their streams when
-- PostgreSQL restarts.
-- Undo: CREATE OR REPLACE server_v1 as in V5; DROP FUNCTION leave_epoch_v1. The next connection begins an epoch.

-- The epoch of the running server goes on.
UPDATE parlance_message.epochs
SET server = concat_ws('/', server, (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint)
WHERE server = parlance_message.server_v1();

-- The history of PostgreSQL that this database is part of. It changes when the server restarts, a standby is promoted or a
-- backup is restored.
CREATE OR REPLACE FUNCTION parlance_message.server_v1() RETURNS text
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
    RETURN concat_ws(
        '/',
        parlance_message.installation_v1(),
        v_timeline,
        (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint
    );
END
$$;

-- Ends an epoch that was set back under a running server, as by a machine that was rolled back with its memory. Without
-- effect unless it is the current one. The next call of enter_epoch_v1 begins another.
CREATE FUNCTION parlance_message.leave_epoch_v1(p_epoch text) RETURNS void
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    UPDATE parlance_message.epochs
    SET server = server || ' set back at ' || clock_timestamp()
    WHERE epoch = p_epoch AND server = parlance_message.server_v1()
$$;
