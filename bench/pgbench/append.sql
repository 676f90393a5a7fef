-- One call of append_v1 with :batch new messages of 100 bytes over :conversations conversations of this client's own,
-- from 8 senders each.
SELECT a.head[1]
FROM (
    SELECT
        ARRAY(
            SELECT format('bench-%s-%s', :client_id::int, n) COLLATE "C" FROM generate_series(1, least(:conversations::int, :batch::int)) AS n
            ORDER BY 1
        ) AS conversations,
        ARRAY(SELECT 1 + p % least(:conversations::int, :batch::int) FROM generate_series(0, least(:conversations::int * 8, :batch::int) - 1) AS p)
            AS pair_conversation,
        ARRAY(
            SELECT 'user-' || (p / least(:conversations::int, :batch::int)) % 8
            FROM generate_series(0, least(:conversations::int * 8, :batch::int) - 1) AS p
        ) AS pair_sender,
        ARRAY(SELECT 1 + s % least(:conversations::int * 8, :batch::int) FROM generate_series(0, :batch::int - 1) AS s) AS send_pair,
        ARRAY(SELECT format('%s-%s', nextval('parlance_message.bench_sequence'), s) FROM generate_series(1, :batch::int) AS s)
            AS request_id,
        array_fill('\x00112233445566778899aabbccddeeff'::bytea, ARRAY[:batch::int]) AS request_hash,
        array_fill(repeat('x', 100), ARRAY[:batch::int]) AS text
) AS i,
LATERAL parlance_message.append_v1(
    i.conversations, i.pair_conversation, i.pair_sender, i.send_pair, i.request_id, i.request_hash, i.text,
    array_fill(NULL::jsonb, ARRAY[:batch::int]), array_fill(NULL::bigint, ARRAY[:batch::int]), NULL, false
) AS a;
