-- Conversations for append.sql: for each of 8 clients :conversations conversations of 8 members, none shared between
-- clients, as writers share none.
SELECT count(parlance_message.create_conversation_v1(
    format('bench-%s-%s', client, n), 2::smallint, '', 'user-0', ARRAY(SELECT 'user-' || m FROM generate_series(1, 7) AS m),
    format('bench-%s-%s', client, n), '\x00000000000000000000000000000000'::bytea
))
FROM generate_series(0, 7) AS client, generate_series(1, 25) AS n;
CREATE SEQUENCE IF NOT EXISTS parlance_message.bench_sequence CACHE 100;
