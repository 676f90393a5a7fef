//! Plans that were made while the tables were empty, and are kept.

use std::{collections::BTreeMap, time::Instant};

use parlance::message::v1::{EditMessageRequest, SendMessageRequest};
use sqlx::{Connection, PgConnection};

use crate::support::{PATIENCE, RunningMessageService, World, group, send_as};

/// Enough that a plan which reads a whole conversation reads many times as many tuples as it makes looks.
const SENDS: i64 = 400;

/// Returns scans and tuples read, by index of `messages`.
async fn reads(connection: &mut PgConnection) -> BTreeMap<String, (i64, i64)> {
    const READS: &str = "
        SELECT indexrelname::text, idx_scan, idx_tup_read FROM pg_stat_user_indexes
        WHERE schemaname = 'parlance_message' AND relname = 'messages'";
    let rows: Vec<(String, i64, i64)> = sqlx::query_as(READS).fetch_all(connection).await.unwrap();
    rows.into_iter().map(|(index, scans, tuples)| (index, (scans, tuples))).collect()
}

#[tokio::test]
async fn no_look_reads_more_in_a_table_that_grew_from_empty() {
    let world = World::new().await;
    world.users(&["ann"]).await;
    world.create(group("g", "ann", &[])).await;
    let before = Instant::now();
    let (mut here, mut there) = (world.messages(), None);
    for n in 0..SENDS {
        // One service plans in an empty table, another one in a small table without statistics.
        if n == SENDS / 8 {
            there = Some(world.replica().await);
        }
        let request = send_as(&format!("request {n}"), "g", "ann", "hello");
        let sequence = here.send_message(request).await.unwrap().into_inner().message.unwrap().sequence;
        let answer =
            SendMessageRequest { reply_to_sequence: sequence, ..send_as(&format!("answer {n}"), "g", "ann", "hi") };
        let mut other = there.as_ref().map_or_else(|| here.clone(), RunningMessageService::messages);
        other.send_message(answer).await.unwrap();
        let edit = EditMessageRequest {
            conversation_id: "g".to_owned(),
            sequence,
            actor_id: "ann".to_owned(),
            text: "edited".to_owned(),
            ..Default::default()
        };
        other.edit_message(edit).await.unwrap();
    }
    // Writers keep their statistics for up to a second, and until they are idle.
    let mut connection = world.database.connect().await;
    let seen = loop {
        let seen = reads(&mut connection).await;
        let looks: i64 = seen.values().map(|(scans, _)| scans).sum();
        if looks >= 4 * SENDS {
            break seen;
        }
        assert!(before.elapsed() < 3 * PATIENCE, "{seen:?}");
        // Each transaction sees one snapshot of the statistics.
        world.try_send(send_as("again", "g", "ann", "hello")).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    for (index, (scans, tuples)) in &seen {
        assert!(*tuples <= 2 * scans.max(&SENDS), "{index} reads {tuples} tuples in {scans} scans; all: {seen:?}");
    }
    connection.close().await.unwrap();
}
