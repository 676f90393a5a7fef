-- Why: checks the rows from before V3 against the constraints added there. Apart from V3, since each migration is one
-- transaction, and here no other transaction waits while the tables are read.
-- Locks: SHARE UPDATE EXCLUSIVE, which reads and writes pass, for one scan of `conversations` and `changes` each.
-- Undo: none needed.

ALTER TABLE parlance_message.conversations
    VALIDATE CONSTRAINT conversations_description_check,
    VALIDATE CONSTRAINT conversations_avatar_url_check;

ALTER TABLE parlance_message.changes
    VALIDATE CONSTRAINT changes_kind_check,
    VALIDATE CONSTRAINT changes_message_check,
    VALIDATE CONSTRAINT changes_member_check,
    VALIDATE CONSTRAINT changes_conversation_check;
