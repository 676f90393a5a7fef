//! The server accepts no writes for a while, as after a failover to a standby that is not promoted yet: no connection to it
//! is kept, readiness reports it, and writes work again at once when it ends.

use std::time::Duration;

use parlance::{message::v1::SendMessageRequest, user::v1::CreateUserRequest};
use sqlx::{AssertSqlSafe, PgConnection};
use tonic_health::pb::health_check_response::ServingStatus;

use super::{
    fault::Fault,
    run::{Run, prepare},
};
use crate::support::{PATIENCE, World, channel_to, code_and_reason, eventually, group, health, send};

/// Makes new sessions read only, or ends that, and ends all other sessions.
async fn set_read_only(world: &World, outside: &mut PgConnection, is_read_only: bool) {
    let value =
        if is_read_only { "SET default_transaction_read_only = on" } else { "RESET default_transaction_read_only" };
    run(outside, format!("ALTER DATABASE {} {value}", world.database.name())).await;
}

async fn end_sessions(outside: &mut PgConnection) {
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
               WHERE datname = current_database() AND pid <> pg_backend_pid()";
    run(outside, end.to_owned()).await;
}

async fn run(outside: &mut PgConnection, statement: String) {
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(outside).await.unwrap();
}

fn new_user(name: &str) -> CreateUserRequest {
    CreateUserRequest { user_id: name.to_owned(), username: name.to_owned(), ..CreateUserRequest::default() }
}

fn message(text: &str) -> SendMessageRequest {
    SendMessageRequest { request_id: text.to_owned(), ..send("g", "ann", text) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_to_a_read_only_server_are_not_kept() {
    let world = World::new().await;
    world.users(&["ann", "ben"]).await;
    world.create(group("g", "ann", &["ben"])).await;
    let mut outside = world.database.connect().await;

    set_read_only(&world, &mut outside, true).await;
    end_sessions(&mut outside).await;
    let calls = (0..40).map(|n| {
        let (mut users, mut messages) = (world.user_service.users(), world.messages());
        async move {
            let (created, sent) = tokio::join!(
                users.create_user(new_user(&format!("u{n}"))),
                messages.send_message(message(&format!("m{n}"))),
            );
            (created.map(drop), sent.map(drop))
        }
    });
    for (created, sent) in futures_util::future::join_all(calls).await {
        for status in [created.unwrap_err(), sent.unwrap_err()] {
            let (_, reason) = code_and_reason(&status);
            // A session that is ended may have been in the middle of a write.
            let expected = ["DATABASE_UNAVAILABLE", "OUTCOME_UNKNOWN", "USER_SERVICE_UNAVAILABLE"];
            assert!(expected.contains(&&*reason), "{status:?}");
        }
    }
    for service in [world.user_service.channel(), world.message_service.channel()] {
        eventually(PATIENCE, || async {
            match health(service.clone(), "").await {
                Ok(ServingStatus::NotServing) => Ok(()),
                other => Err(format!("a read-only server: {other:?}")),
            }
        })
        .await;
    }

    // Sessions that are open stay as they are: only new ones are read and write.
    set_read_only(&world, &mut outside, false).await;
    let soon = Duration::from_secs(10);
    for n in 0..30 {
        let created = || async { world.user_service.users().create_user(new_user(&format!("v{n}"))).await };
        eventually(soon, created).await;
        eventually(soon, || async { world.messages().send_message(message(&format!("n{n}"))).await }).await;
    }
    world.user_service.wait_until_serving().await;
    world.message_service.wait_until_serving().await;
    // None of them is by luck of the connection it got.
    for n in 0..30 {
        world.user_service.create(&format!("w{n}")).await;
        world.messages().send_message(message(&format!("o{n}"))).await.unwrap();
    }
}

/// The same under load, again and again.
pub(super) async fn under_load(mut fault: Fault) {
    while let Some(rounds) = fault.next_part() {
        let world = World::new().await;
        prepare(&world).await;
        let mut outside = world.database.connect().await;
        let run = Run::begin(&fault, channel_to(world.message_service.address()));
        for _ in 0..rounds {
            run.at_a_random_moment(&mut fault).await;
            set_read_only(&world, &mut outside, true).await;
            end_sessions(&mut outside).await;
            eventually(PATIENCE, || async {
                match world.user_service.users().create_user(new_user("none")).await {
                    Err(status) if code_and_reason(&status).1 == "DATABASE_UNAVAILABLE" => Ok(()),
                    other => Err(format!("{other:?}")),
                }
            })
            .await;
            set_read_only(&world, &mut outside, false).await;
            run.recovers(&mut fault).await;
        }
        run.end(&mut fault, rounds, &world.messages()).await;
    }
    fault.end();
}
