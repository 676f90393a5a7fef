//! `ListEvents`: the log itself, dense, in pages.

use parlance::message::v1::{ListEventsRequest, ListEventsResponse, MemberRole};
use prost::Message;
use tonic::{Code, Status};

use crate::support::{World, read_log, refused, violated_fields};

async fn list(world: &World, after_sequence: i64, page_size: i32) -> Result<ListEventsResponse, Status> {
    let request =
        ListEventsRequest { conversation_id: "g".to_owned(), actor_id: "ben".to_owned(), after_sequence, page_size };
    Ok(world.messages().list_events(request).await?.into_inner())
}

#[tokio::test]
async fn pages_of_any_size_return_the_same_log() {
    let world = World::with_group().await;
    for n in 0..60 {
        let sent = world.send("g", "ann", &format!("message {n}")).await.sequence;
        match n % 10 {
            3 => drop(super::edit(&world, "g", sent, "ann", "edited").await.unwrap()),
            5 => drop(super::delete(&world, "g", sent, "ann").await.unwrap()),
            7 => drop(world.add("g", "ann", &["cat"], MemberRole::Member).await.unwrap()),
            9 => world.remove("g", "ann", "cat").await.unwrap(),
            _ => {}
        }
    }
    let whole = world.log("g", "ben").await;
    assert_eq!(whole.len(), 2 + 60 + 4 * 6);
    for page_size in [1, 7, 50] {
        assert_eq!(read_log(&mut world.messages(), "g", "ben", page_size).await, whole);
    }
    assert_eq!(list(&world, 0, 0).await.unwrap().events, whole[..50]);
    assert_eq!(list(&world, 80, i32::MAX).await.unwrap().events, whole[80..]);
}

#[tokio::test]
async fn a_page_at_or_beyond_the_head_is_empty() {
    let world = World::with_group().await;
    for after in [2, 3, 1_000_000, i64::MAX] {
        let page = list(&world, after, 10).await.unwrap();
        assert_eq!((page.events.len(), page.last_sequence), (0, 2), "after {after}");
    }
    for (after, size, field) in [(-1, 0, "after_sequence"), (0, -1, "page_size")] {
        let status = refused(list(&world, after, size).await, Code::InvalidArgument, "INVALID_ARGUMENT");
        assert_eq!(violated_fields(&status), [field]);
    }
}

#[tokio::test]
async fn a_page_ends_at_about_a_mebibyte_and_an_edit_counts_in_full() {
    let world = World::with_group().await;
    let text = "x".repeat(16_384);
    for _ in 0..40 {
        let sequence = world.send("g", "ann", ".").await.sequence;
        super::edit(&world, "g", sequence, "ann", &text).await.unwrap();
    }
    let first = list(&world, 0, 1000).await.unwrap();
    let size = first.encoded_len();
    assert!((800_000..1_300_000).contains(&size), "{size} bytes in {} events", first.events.len());
    let after = first.events.len() as i64;
    let rest = list(&world, after, 1000).await.unwrap();
    assert_eq!((rest.last_sequence, after + rest.events.len() as i64), (82, 82));
}

#[tokio::test]
async fn event_times_never_go_backwards_even_when_the_clock_does() {
    let world = World::with_group().await;
    // Simulates entries written by a clock that was an hour ahead.
    let ahead = "
        UPDATE parlance_message.conversations SET last_entry_at = last_entry_at + interval '1 hour';
        UPDATE parlance_message.changes SET created_at = created_at + interval '1 hour'";
    sqlx::raw_sql(ahead).execute(&mut world.database.connect().await).await.unwrap();
    let sent = world.send("g", "ann", "x").await;
    let edited = super::edit(&world, "g", sent.sequence, "ann", "y").await.unwrap();
    let log = world.log("g", "ann").await;
    assert_eq!((log[2].event_time, log[3].event_time), (log[1].event_time, edited.edit_time));
    assert_eq!(sent.create_time, log[1].event_time);
}
