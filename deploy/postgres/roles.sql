-- Creates a role for each service, and gives it the schema of that service with everything in it. Neither owns anything else,
-- and neither can read what belongs to the other. Repeat it as often as you like: after a restore, or to take over tables that
-- another role created. Run it as a superuser in the database of the services; then set the passwords:
--
--   psql --dbname=parlance --file=deploy/postgres/roles.sql
--   psql --dbname=parlance --command='\password user_service' --command='\password message_service'
--
-- Locks: tables that change their owner, exclusively, until the end; running services wait for it. After 10 s without a lock
-- it fails and changes nothing.

DO $$
DECLARE
    v_role text;
    v_schema text;
    v_statement text;
BEGIN
    SET LOCAL lock_timeout = '10s';
    -- Types and functions are then printed with their schema.
    SET LOCAL search_path = pg_catalog, pg_temp;
    FOR v_role, v_schema IN
        VALUES ('user_service', 'parlance_user'), ('message_service', 'parlance_message')
    LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = v_role) THEN
            EXECUTE format('CREATE ROLE %I LOGIN', v_role);
        END IF;
        IF NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = v_schema) THEN
            EXECUTE format('CREATE SCHEMA %I AUTHORIZATION %I', v_schema, v_role);
        END IF;
        FOR v_statement IN
            SELECT format('SCHEMA %I', n.nspname) FROM pg_namespace AS n
            WHERE n.nspname = v_schema AND n.nspowner <> v_role::regrole
            UNION ALL
            -- Indexes follow their table, and so do the sequences of its columns.
            SELECT format('TABLE %s', c.oid::regclass) FROM pg_class AS c
            WHERE c.relnamespace = v_schema::regnamespace AND c.relowner <> v_role::regrole
                AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
                AND NOT EXISTS (
                    SELECT FROM pg_depend AS d
                    WHERE c.relkind = 'S' AND d.classid = 'pg_class'::regclass AND d.objid = c.oid
                        AND d.deptype IN ('a', 'i') AND d.refclassid = 'pg_class'::regclass
                )
            UNION ALL
            SELECT format('ROUTINE %s', p.oid::regprocedure) FROM pg_proc AS p
            WHERE p.pronamespace = v_schema::regnamespace AND p.proowner <> v_role::regrole
            UNION ALL
            -- Arrays follow the type of their elements, and the row types of tables follow the table.
            SELECT format('TYPE %s', t.oid::regtype) FROM pg_type AS t
            WHERE t.typnamespace = v_schema::regnamespace AND t.typowner <> v_role::regrole
                AND (
                    t.typtype IN ('d', 'e', 'r')
                    OR t.typtype = 'c' AND (SELECT c.relkind FROM pg_class AS c WHERE c.oid = t.typrelid) = 'c'
                )
        LOOP
            EXECUTE format('ALTER %s OWNER TO %I', v_statement, v_role);
        END LOOP;
    END LOOP;
END
$$;
