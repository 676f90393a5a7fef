//! Each kind of damage is done in the database, and reported by `verify`.

use parlance::message::v1::{
    Conversation, DeleteMessageRequest, EditMessageRequest, MarkReadRequest, MemberRole, SendMessageRequest,
    UpdateConversationRequest,
};
use parlance::user::v1::DeleteUserRequest;
use sqlx::AssertSqlSafe;

use super::verify;
use crate::support::{TestDatabase, World, direct, send};

/// A statement that does damage, the checks that find it, and part of the first one's first finding.
type Damage = (&'static str, &'static [&'static str], &'static str);

/// The log of `g`: 1 and 2 joins, 3 "one", 4 "two" (an answer to 3), 5 an edit of 3, 6 "three", 7 the deletion of 4, 8 cat
/// joined, 9 cat left, 10 a title, 11 "four", 12 "five". One DIRECT conversation with a message, entry 3.
async fn sound_database() -> TestDatabase {
    let world = World::with_group().await;
    let mut messages = world.messages();
    world.send("g", "ann", "one").await;
    let answer = SendMessageRequest { reply_to_sequence: 3, ..send("g", "ben", "two") };
    world.try_send(answer).await.unwrap();
    let edit = EditMessageRequest {
        conversation_id: "g".to_owned(),
        sequence: 3,
        actor_id: "ann".to_owned(),
        text: "one and a half".to_owned(),
        ..Default::default()
    };
    messages.edit_message(edit).await.unwrap();
    world.send("g", "ann", "three").await;
    let delete = DeleteMessageRequest { conversation_id: "g".to_owned(), sequence: 4, actor_id: "ben".to_owned() };
    messages.delete_message(delete).await.unwrap();
    world.add("g", "ann", &["cat"], MemberRole::Member).await.unwrap();
    world.remove("g", "ann", "cat").await.unwrap();
    let renamed = Conversation { conversation_id: "g".to_owned(), title: "G".to_owned(), ..Default::default() };
    let rename =
        UpdateConversationRequest { conversation: Some(renamed), actor_id: "ann".to_owned(), ..Default::default() };
    world.conversations().update_conversation(rename).await.unwrap();
    world.send("g", "ben", "four").await;
    assert_eq!(world.send("g", "ann", "five").await.sequence, 12);
    for (user, sequence) in [("ben", 11), ("ann", 12)] {
        let (conversation_id, actor_id) = ("g".to_owned(), user.to_owned());
        world.conversations().mark_read(MarkReadRequest { conversation_id, actor_id, sequence }).await.unwrap();
    }
    let direct = world.create(direct("ann", "ben")).await.conversation_id;
    world.send(&direct, "ben", "hello").await;
    let delete = DeleteUserRequest { user_id: "dan".to_owned(), ..Default::default() };
    world.user_service.users().delete_user(delete).await.unwrap();
    let World { message_service, user_service, database } = world;
    message_service.stop().await.unwrap();
    user_service.stop().await.unwrap();
    database
}

async fn check_each(service: &str, damages: &[Damage]) {
    let whole = sound_database().await;
    for (statement, names, words) in damages {
        let database = whole.copy().await;
        sqlx::raw_sql(AssertSqlSafe(*statement)).execute(&mut database.connect().await).await.unwrap();
        let checked = verify(service, &database.url(), &["--json", "--slice", "10"]).await;
        let problems = checked.problems();
        let found: Vec<&str> = problems.iter().map(|(name, _)| &**name).collect();
        assert_eq!(found, *names, "{statement}: {checked:?}");
        let Some((_, examples)) = problems.first() else {
            assert_eq!(checked.code, Some(0), "{statement}");
            continue;
        };
        assert!(examples[0].contains(words), "{statement}: {words} is not in {examples:?}");
        assert_eq!(checked.code, Some(1), "{statement}");

        let received = verify(service, &database.url(), &[]).await;
        assert_eq!((received.code, &*received.err), (Some(1), ""), "{statement}: {received:?}");
        let line = format!("\n{}: {}. ", names[0], problems[0].1.len());
        assert!(
            format!("\n{}", received.out).contains(&line) || problems[0].1.len() >= 5,
            "{statement}: {line} {received:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_log_is_reported_with_its_position() {
    check_each("message-service", &[
        ("SELECT 1", &[], ""),
        ("DELETE FROM parlance_message.messages WHERE sequence = 6", &["holes"], r#""sequence":6"#),
        (
            "DELETE FROM parlance_message.messages WHERE sequence >= 11",
            &["holes", "marks"],
            r#"{"conversation_id":"g","expected":"entries 11 to 12","found":"none","sequence":11}"#,
        ),
        ("DELETE FROM parlance_message.changes WHERE sequence = 5", &["holes", "changes"], r#""sequence":5"#),
        ("DELETE FROM parlance_message.changes WHERE conversation_id = 'g' AND sequence = 1", &["holes", "members"], ""),
        (
            "INSERT INTO parlance_message.changes (conversation_id, sequence, kind, actor_id, target_sequence, created_at)
             SELECT conversation_id, 6, 1, 'ann', 3, created_at FROM parlance_message.messages WHERE sequence = 6",
            &["doubles", "changes"],
            "a message and a change",
        ),
        (
            "UPDATE parlance_message.messages SET ordinal = 3 WHERE sequence = 11",
            &["ordinals", "marks"],
            r#""expected":"ordinal 4","found":"3","sequence":11"#,
        ),
        (
            "UPDATE parlance_message.messages SET ordinal = ordinal + 1 WHERE sequence = 12",
            &["ordinals", "counters", "marks"],
            r#""expected":"ordinal 5","found":"6""#,
        ),
        (
            "UPDATE parlance_message.changes SET created_at = created_at - interval '1 day' WHERE sequence = 8",
            &["times"],
            r#""sequence":8"#,
        ),
        (
            "UPDATE parlance_message.messages SET reply_to_sequence = 5 WHERE sequence = 6",
            &["references"],
            "reply_to_sequence 5 to refer to an earlier message",
        ),
        (
            "UPDATE parlance_message.messages SET reply_to_sequence = 11 WHERE sequence = 6",
            &["references"],
            "reply_to_sequence 11",
        ),
        (
            "UPDATE parlance_message.changes SET target_sequence = 2 WHERE sequence = 5",
            &["references", "changes"],
            "its target 2 to be a message",
        ),
        (
            "UPDATE parlance_message.messages SET change_sequence = sequence WHERE conversation_id = 'g' AND sequence = 3",
            &["changes"],
            "an edited message",
        ),
        (
            "UPDATE parlance_message.messages SET edited_at = NULL WHERE conversation_id = 'g' AND sequence = 3",
            &["changes"],
            "an unchanged message",
        ),
        (
            "UPDATE parlance_message.messages
             SET deleted_at = NULL, text = 'two', request_hash = substr(sha256(''), 1, 16) WHERE sequence = 4",
            &["changes"],
            "a deleted message, the result of entry 7",
        ),
        (
            "UPDATE parlance_message.conversations SET description = 'x' WHERE conversation_id = 'g'",
            &["changes"],
            "the conversation to be as this entry left it",
        ),
        ("UPDATE parlance_message.changes SET title = 'H' WHERE sequence = 10", &["changes"], r#""sequence":10"#),
        // An entry from before a conversation had more than a title.
        ("UPDATE parlance_message.changes SET detail = NULL WHERE sequence = 10", &[], ""),
        // Entries removed by retention are cut from the front, and are no gap.
        (
            "DELETE FROM parlance_message.messages WHERE conversation_id = 'g' AND sequence < 5;
             DELETE FROM parlance_message.changes WHERE conversation_id = 'g' AND sequence < 5;
             UPDATE parlance_message.conversations SET oldest_sequence = 5 WHERE conversation_id = 'g'",
            &[],
            "",
        ),
        (
            "UPDATE parlance_message.conversations SET oldest_sequence = 2 WHERE conversation_id = 'g'",
            &["counters"],
            "no entry before oldest_sequence 2",
        ),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_damage_in_message_service_is_reported() {
    check_each("message-service", &[
        (
            "DELETE FROM parlance_message.conversations WHERE conversation_id = 'g'",
            &["orphans", "outbox"],
            "no conversation, but 12 entries, the last with sequence 12",
        ),
        (
            "ALTER TABLE parlance_message.conversations DROP CONSTRAINT conversations_sequence_check;
                 UPDATE parlance_message.conversations SET last_sequence = 11 WHERE conversation_id = 'g'",
            &["counters", "marks", "outbox"],
            "last_sequence 12, that of the last entry",
        ),
        (
            "UPDATE parlance_message.conversations SET last_sequence = 14 WHERE conversation_id = 'g'",
            &["holes"],
            "entries 13 to 14",
        ),
        (
            "UPDATE parlance_message.conversations SET message_count = 4 WHERE conversation_id = 'g'",
            &["counters"],
            "message_count 5, the ordinal of the last message",
        ),
        (
            "UPDATE parlance_message.conversations SET last_message_sequence = 11 WHERE conversation_id = 'g'",
            &["counters"],
            "last_message_sequence 12",
        ),
        (
            "UPDATE parlance_message.conversations SET last_message_at = last_message_at - interval '1 s'",
            &["counters"],
            "last_message_at ",
        ),
        (
            "UPDATE parlance_message.conversations SET last_entry_at = last_entry_at + interval '1 s'",
            &["counters"],
            "last_entry_at ",
        ),
        ("UPDATE parlance_message.conversations SET version = 3 WHERE conversation_id = 'g'", &["counters"], "version 2"),
        (
            "DELETE FROM parlance_message.members WHERE conversation_id <> 'g' AND user_id = 'ben'",
            &["members"],
            "two members of a DIRECT conversation",
        ),
        (
            "UPDATE parlance_message.members SET role = 3 WHERE conversation_id = 'g'",
            &["members"],
            "an owner among the members",
        ),
        (
            "INSERT INTO parlance_message.members (conversation_id, user_id, role, join_sequence, joined_at,
                 last_read_sequence, last_read_ordinal)
             VALUES ('g', 'cat', 3, 8, now(), 8, 3)",
            &["members"],
            r#""sequence":9,"user_id":"cat""#,
        ),
        (
            "UPDATE parlance_message.members SET join_sequence = 3 WHERE conversation_id = 'g' AND user_id = 'ben'",
            &["members"],
            "the join of the user as entry 3",
        ),
        (
            "UPDATE parlance_message.members SET last_read_sequence = 99 WHERE conversation_id = 'g' AND user_id = 'ben'",
            &["marks"],
            "last_read_sequence up to last_sequence 12",
        ),
        (
            "UPDATE parlance_message.members SET last_read_ordinal = 1 WHERE conversation_id = 'g' AND user_id = 'ben'",
            &["marks"],
            "last_read_ordinal 4 at last_read_sequence 11",
        ),
        (
            "INSERT INTO parlance_message.outbox (conversation_ids, last_sequences, user_ids, created_at)
             VALUES (ARRAY['g'], ARRAY[13], '{}', now())",
            &["outbox"],
            "a head up to last_sequence 12",
        ),
        (
            "INSERT INTO parlance_message.outbox (conversation_ids, last_sequences, user_ids, created_at)
             VALUES (ARRAY['nowhere'], ARRAY[1], '{}', now())",
            &["outbox"],
            r#""conversation_id":"nowhere""#,
        ),
        ("DELETE FROM parlance_message.settings", &["settings"], ""),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_users_are_reported() {
    check_each("user-service", &[
        ("SELECT 1", &[], ""),
        (
            "ALTER TABLE parlance_user.users DROP CONSTRAINT users_username_key_check;
             UPDATE parlance_user.users SET username_key = 'anna' WHERE user_id = 'ann'",
            &["names"],
            r#"{"expected":"username_key ann","found":"anna","user_id":"ann"}"#,
        ),
        (
            "ALTER TABLE parlance_user.users DROP CONSTRAINT users_username_key_key;
             UPDATE parlance_user.users SET username = 'BEN', username_key = 'ben' WHERE user_id = 'ann'",
            &["names"],
            "that of user ben",
        ),
        (
            "ALTER TABLE parlance_user.users DROP CONSTRAINT users_display_name_check;
             UPDATE parlance_user.users SET display_name = 'Daniel' WHERE user_id = 'dan'",
            &["tombstones"],
            r#""user_id":"dan""#,
        ),
        (
            "UPDATE parlance_user.users SET request_id = 'r', request_hash = substr(sha256(''), 1, 16) WHERE user_id = 'dan'",
            &["tombstones"],
            r#""user_id":"dan""#,
        ),
        (
            "ALTER TABLE parlance_user.users DROP CONSTRAINT users_updated_at_check;
             UPDATE parlance_user.users SET updated_at = created_at - interval '1 s' WHERE user_id = 'cat'",
            &["times"],
            r#""user_id":"cat""#,
        ),
        ("DELETE FROM parlance_user.users WHERE user_id = 'cat'", &["outbox"], r#""user_id":"cat""#),
        ("DELETE FROM parlance_user.settings", &["settings"], ""),
    ])
    .await;
}

#[tokio::test]
async fn one_conversation_is_checked_alone() {
    let whole = sound_database().await;
    let damage = "DELETE FROM parlance_message.messages WHERE conversation_id <> 'g'";
    sqlx::raw_sql(damage).execute(&mut whole.connect().await).await.unwrap();
    assert_eq!(verify("message-service", &whole.url(), &["--conversation", "g"]).await.code, Some(0));
    let both = verify("parlance", &whole.url(), &[]).await;
    assert_eq!(both.code, Some(1), "{both:?}");
    assert!(both.out.contains("\nholes: 1. A log has an entry for each sequence"), "{both:?}");
    assert!(both.out.contains("PROBLEMS in ") && both.out.contains("user-service: no problems in"), "{both:?}");
}
