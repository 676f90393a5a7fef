//! `verify` of sound databases, and of those that cannot be checked.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use futures_util::future::join_all;
use parlance::message::v1::{
    DeleteMessageRequest, EditMessageRequest, MarkReadRequest, MemberRole, SendMessageRequest,
};
use serde_json::Value;

use super::{Checked, verify};
use crate::support::{PATIENCE, TestDatabase, World, channel, direct, eventually, group, send};

/// Conversations under load.
const IDS: [&str; 4] = ["g", "h", "i", "j"];

/// Performs every operation that takes a sequence, repeatedly, until stopped.
async fn write_repeatedly(world: &World, id: &str, rounds: &AtomicU64, stop: &AtomicBool) {
    let mut messages = world.messages();
    while !stop.load(Ordering::Relaxed) {
        let first = world.send(id, "ann", "one").await.sequence;
        let reply = SendMessageRequest { reply_to_sequence: first, ..send(id, "ben", "two") };
        let second = world.try_send(reply).await.unwrap().message.unwrap().sequence;
        let edit = EditMessageRequest {
            conversation_id: id.to_owned(),
            sequence: first,
            actor_id: "ann".to_owned(),
            text: "changed".to_owned(),
            ..Default::default()
        };
        let delete =
            DeleteMessageRequest { conversation_id: id.to_owned(), sequence: second, actor_id: "ben".to_owned() };
        let mark = MarkReadRequest { conversation_id: id.to_owned(), actor_id: "cat".to_owned(), sequence: second };
        world.add(id, "ann", &["cat"], MemberRole::Member).await.unwrap();
        let mut others = world.messages();
        let at_once = (messages.edit_message(edit), others.delete_message(delete), world.send(id, "ben", "three"));
        let (edited, deleted, _) = tokio::join!(at_once.0, at_once.1, at_once.2);
        edited.unwrap();
        deleted.unwrap();
        world.conversations().mark_read(mark).await.unwrap();
        world.remove(id, "ann", "cat").await.unwrap();
        rounds.fetch_add(1, Ordering::Relaxed);
    }
}

fn assert_clean(checked: &Checked, name: &str) {
    assert_eq!((checked.code, &*checked.err), (Some(0), ""), "{name}: {checked:?}");
    let last = checked.out.lines().last().unwrap_or_default();
    assert!(last.starts_with(&format!("{name}: no problems in")), "{checked:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verify_finds_no_problem_in_a_busy_database() {
    let world = Arc::new(World::new().await);
    world.users(&["ann", "ben", "cat"]).await;
    for id in ["g", "h", "i"] {
        world.create(group(id, "ann", &["ben"])).await;
    }
    world.create(channel("j", "ann", &["ben"])).await;
    world.create(direct("ann", "ben")).await;
    let url = world.database.url();
    let (rounds, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let busy = IDS.map(|id| {
        let (world, rounds, stop) = (world.clone(), rounds.clone(), stop.clone());
        tokio::spawn(async move { write_repeatedly(&world, id, &rounds, &stop).await })
    });

    // Slices that end in the middle of logs, and everything in one.
    for (checked_before, slice) in [(0, "10"), (1, "17"), (2, "100"), (3, "10000")] {
        let more = (checked_before + 1) * 12;
        eventually(PATIENCE, || async {
            let now = rounds.load(Ordering::Relaxed);
            if now >= more { Ok(()) } else { Err(format!("{now} of {more} rounds")) }
        })
        .await;
        let before = rounds.load(Ordering::Relaxed);
        assert_clean(&verify("message-service", &url, &["--slice", slice]).await, "message-service");
        assert_clean(
            &verify("message-service", &url, &["--slice", slice, "--conversation", "h"]).await,
            "message-service",
        );
        assert_clean(&verify("user-service", &url, &["--slice", slice]).await, "user-service");
        assert!(rounds.load(Ordering::Relaxed) >= before, "no operation ran during the check");
    }
    stop.store(true, Ordering::Relaxed);
    for ended in join_all(busy).await {
        ended.unwrap();
    }

    // Afterwards the counts are known, whatever the slices.
    let mut counted = Vec::new();
    for slice in ["10", "11", "10000"] {
        let checked = verify("message-service", &url, &["--json", "--slice", slice]).await;
        assert_eq!(checked.code, Some(0), "{checked:?}");
        let report: Value = serde_json::from_str(&checked.out).unwrap();
        counted.push(report["counted"].clone());
    }
    let logs = IDS.map(|id| async { world.log(id, "ann").await.len() });
    let entries: usize = join_all(logs).await.into_iter().sum();
    assert_eq!((&counted[0]["conversations"], &counted[0]["entries"]), (&Value::from(5), &Value::from(entries + 2)));
    assert!(counted.iter().all(|count| *count == counted[0]), "{counted:?}");

    let both = verify("parlance", &url, &[]).await;
    assert_eq!((both.code, &*both.err), (Some(0), ""), "{both:?}");
    for name in ["user-service: no problems", "message-service: no problems"] {
        assert!(both.out.contains(name), "{both:?}");
    }
}

/// Checks for exit code 2, one sentence with the reason, and no report.
async fn check_cannot(name: &str, url: &str, more: &[&str], reasons: &[&str]) {
    let checked = verify(name, url, more).await;
    assert_eq!((checked.code, &*checked.out), (Some(2), ""), "{checked:?}");
    for reason in reasons {
        assert!(checked.err.contains(reason), "{reason} is not in {checked:?}");
    }
    assert!(!checked.err.contains("topsecret"), "{checked:?}");
}

#[tokio::test]
async fn a_database_that_cannot_be_checked_is_an_error() {
    let nowhere = "postgres://parlance:topsecret@127.0.0.1:1/parlance";
    for name in ["user-service", "message-service", "parlance"] {
        check_cannot(name, nowhere, &[], &["could not check everything", "the database cannot be reached"]).await;
        check_cannot(name, "nonsense", &[], &["does not begin with postgres://"]).await;
    }
    check_cannot("message-service", nowhere, &["--slice", "0"], &["--slice"]).await;

    let empty = TestDatabase::empty().await;
    for (name, schema) in [("user-service", "parlance_user"), ("message-service", "parlance_message")] {
        check_cannot(name, &empty.url(), &[], &[&format!("has no schema {schema}"), "it was never migrated"]).await;
    }

    let database = TestDatabase::migrated().await;
    check_cannot("message-service", &database.url(), &["--conversation", "g"], &["conversation \"g\" does not exist"])
        .await;
    let mut connection = database.connect().await;
    for (name, schema) in [("user-service", "parlance_user"), ("message-service", "parlance_message")] {
        let insert = format!(
            "INSERT INTO {schema}.schema_history (version, name, applied_on, checksum)
             VALUES (999, 'from_the_future', '2026-01-01T00:00:00Z', '1')"
        );
        let delete = format!("DELETE FROM {schema}.schema_history WHERE version > 1");
        for (statement, reasons) in [
            (insert, ["is at version 999, newer than", "a newer binary"]),
            (delete, ["is at version 1, older than", "migrate it"]),
        ] {
            sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut connection).await.unwrap();
            check_cannot(name, &database.url(), &[], &reasons).await;
        }
    }
}

#[tokio::test]
async fn verify_finds_no_problem_where_a_member_succeeded_a_deleted_owner() {
    let world = World::with_group().await;
    world.add("g", "ann", &["cat"], MemberRole::Admin).await.unwrap();
    world.delete_user("ann").await;
    // Takes an owner: an admin adds plain members only.
    eventually(PATIENCE, || world.add("g", "cat", &["dan"], MemberRole::Admin)).await;
    assert_clean(&verify("message-service", &world.database.url(), &[]).await, "message-service");
}
