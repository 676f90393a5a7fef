//! A row is corrupted in the database: the service detects it, returns a bare INTERNAL, and shows no log with a gap.

use tonic::{Code, Status};

use crate::support::{Reader, World, refused};

async fn break_with(world: &World, statement: &'static str) {
    sqlx::raw_sql(statement).execute(&mut world.database.connect().await).await.unwrap();
}

/// Checks that the status reveals nothing about the implementation.
fn check_is_bare(status: &Status) {
    assert_eq!(status.message(), "internal error");
    let whole = format!("{status:?} {}", String::from_utf8_lossy(status.details())).to_lowercase();
    for word in ["select", "parlance_message", "sqlx", "column", "entries after", "relation"] {
        assert!(!whole.contains(word), "{word} in {whole}");
    }
}

async fn events(world: &World, after_sequence: i64) -> Result<usize, Status> {
    let request = parlance::message::v1::ListEventsRequest {
        conversation_id: "g".to_owned(),
        actor_id: "ann".to_owned(),
        after_sequence,
        ..Default::default()
    };
    Ok(world.messages().list_events(request).await?.into_inner().events.len())
}

#[tokio::test]
async fn a_missing_entry_is_detected_by_lists_and_streams() {
    let world = World::with_group().await;
    for n in 3..=7 {
        world.send("g", "ann", &format!("message {n}")).await;
    }
    break_with(&world, "DELETE FROM parlance_message.messages WHERE sequence = 5").await;
    check_is_bare(&refused(events(&world, 0).await, Code::Internal, "INTERNAL"));
    // Entries after the gap can still be read.
    assert_eq!(events(&world, 5).await.unwrap(), 2);

    let mut reader = Reader::open(&world.messages(), "g", "ben", Some(0)).await.unwrap();
    let (seen, status) = reader.end().await;
    assert!(seen.len() <= 4, "{seen:?}");
    check_is_bare(&refused::<()>(Err(status), Code::Internal, "INTERNAL"));
}

#[tokio::test]
async fn a_missing_message_of_an_edit_is_detected() {
    let world = World::with_group().await;
    let sequence = world.send("g", "ann", "x").await.sequence;
    let edit = parlance::message::v1::EditMessageRequest {
        conversation_id: "g".to_owned(),
        sequence,
        actor_id: "ann".to_owned(),
        text: "y".to_owned(),
        ..Default::default()
    };
    world.messages().edit_message(edit).await.unwrap();
    break_with(&world, "DELETE FROM parlance_message.messages WHERE sequence = 3").await;
    check_is_bare(&refused(events(&world, 3).await, Code::Internal, "INTERNAL"));
}

#[tokio::test]
async fn a_head_beyond_the_log_is_detected() {
    let world = World::with_group().await;
    break_with(&world, "UPDATE parlance_message.conversations SET last_sequence = 9").await;
    check_is_bare(&refused(events(&world, 0).await, Code::Internal, "INTERNAL"));
}

#[tokio::test]
async fn a_failed_statement_is_not_shown_to_the_caller() {
    let world = World::with_group().await;
    break_with(&world, "ALTER TABLE parlance_message.members RENAME COLUMN role TO role_before").await;
    let status = refused(world.conversation("g", "ann").await, Code::Internal, "INTERNAL");
    check_is_bare(&status);
    let status = refused(
        world.add("g", "ann", &["cat"], parlance::message::v1::MemberRole::Member).await,
        Code::Internal,
        "INTERNAL",
    );
    check_is_bare(&status);
}
