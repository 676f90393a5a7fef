//! Something between message-service and PostgreSQL drops open connections without a word, as a NAT does with idle ones.

use std::time::Duration;

use sqlx::{Connection, PgConnection};
use tokio::time::timeout;

use crate::support::{Mode, Proxy, RunningMessageService, World, group, message_service_config, send};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_over_a_connection_that_went_silent_is_tried_again_within_its_time() {
    let world = World::new().await;
    world.users(&["ann", "ben"]).await;
    world.create(group("g", "ann", &["ben"])).await;
    let proxy = Proxy::start(Mode::Open).await;
    let (url, users) = (world.database.url_through(proxy.port()), world.user_service.address().to_string());
    let service = RunningMessageService::start(message_service_config(&url, &users, &["--writers", "1"])).await;
    let first = service.messages().send_message(send("g", "ann", "before")).await.unwrap().into_inner();
    let mut witness = PgConnection::connect(&url).await.unwrap();
    proxy.set(Mode::Silent);
    while timeout(Duration::from_millis(500), witness.ping()).await.is_ok() {}
    // New connections work: only those that were open stay silent.
    proxy.set(Mode::Open);
    let sent = service.messages().send_message(send("g", "ann", "after")).await;
    let sent = sent.expect("a second try").into_inner();
    assert_eq!(sent.message.unwrap().sequence, first.message.unwrap().sequence + 1);
}
