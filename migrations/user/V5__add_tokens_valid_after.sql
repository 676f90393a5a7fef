-- Why: tokens of a user that were issued before a moment can be revoked, all together: what products need at a lost phone or
-- a changed password. Everybody who watches users hears of it by the trigger that exists.
-- Locks: parlance_user.users, for the moment that it takes to add a column without a default; nothing is rewritten.
-- Undo: DROP FUNCTION parlance_user.revoke_tokens_v1; ALTER TABLE parlance_user.users DROP COLUMN tokens_valid_after; revoked
-- tokens that have not ended are good again then.

ALTER TABLE parlance_user.users ADD COLUMN tokens_valid_after timestamptz;

-- Tokens have whole seconds: those issued in this one are revoked, too. Never moves back.
-- Outcomes: changed; not_found; deleted.
CREATE FUNCTION parlance_user.revoke_tokens_v1(
    given_user_id text,
    OUT outcome text,
    OUT account parlance_user.users
)
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    SELECT * INTO account FROM parlance_user.users WHERE user_id = given_user_id FOR UPDATE;
    IF NOT FOUND THEN
        outcome := 'not_found';
    ELSIF account.state = 'deleted' THEN
        outcome := 'deleted';
    ELSE
        UPDATE parlance_user.users
        SET tokens_valid_after = greatest(tokens_valid_after, date_trunc('second', clock_timestamp()) + interval '1 second'),
            version = version + 1,
            updated_at = greatest(clock_timestamp(), updated_at)
        WHERE user_id = given_user_id
        RETURNING * INTO account;
        outcome := 'changed';
    END IF;
END
$$;
