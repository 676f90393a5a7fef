-- One plain INSERT for each transaction into the same table with the same indexes: no order, no idempotency, no membership.
INSERT INTO parlance_message.messages (
    conversation_id, sequence, ordinal, sender_id, request_id, request_hash, text, created_at, change_sequence
)
SELECT 'plain-' || n % 100, n, n, 'user-' || n % 8, 'request-' || n, '\x00112233445566778899aabbccddeeff', repeat('x', 100),
    clock_timestamp(), n
FROM nextval('parlance_message.bench_sequence') AS n;
