//! The synchronous standby is away: no commit ends, and no call leaves a connection behind.

use std::time::Duration;

use parlance::{message::v1::SendMessageRequest, user::v1::CreateUserRequest};
use parlance_standalone::cluster::{Cluster, Options};
use sqlx::{Connection, PgConnection};
use tokio::time::Instant;

use crate::support::{
    PATIENCE, RunningMessageService, RunningUserService, code_and_reason, eventually, group, message_service_config,
    send, user_service_config,
};

/// Of user-service: 4 for calls and 4 beside them. Of message-service: the same, 2 for each of 2 writers, and 2 for the bus.
const MOST: i64 = 8 + 8 + 2 * 2 + 2;

const COUNT: &str = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'parlance%'";

async fn set_standby(outside: &mut PgConnection, names: &'static str) {
    for statement in [names, "SELECT pg_reload_conf()"] {
        sqlx::raw_sql(statement).execute(&mut *outside).await.unwrap();
    }
}

/// Waits until commits wait for the standby. The one that shows it stays as it is.
async fn wait_until_commits_wait(url: &str) {
    eventually(PATIENCE, || async {
        let mut other = PgConnection::connect(url).await.unwrap();
        let commit = sqlx::raw_sql("CREATE TEMPORARY TABLE t ()").execute(&mut other);
        match tokio::time::timeout(Duration::from_secs(1), commit).await {
            Ok(done) => Err(format!("committed: {done:?}")),
            Err(_) => Ok(()),
        }
    })
    .await;
}

async fn count(outside: &mut PgConnection) -> i64 {
    let (count,) = sqlx::query_as(COUNT).fetch_one(outside).await.unwrap();
    count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_without_a_synchronous_standby_leave_no_connection_behind() {
    let cluster = Cluster::start(Options::temporary().max_connections(100)).await.unwrap();
    cluster.create_database("parlance").await.unwrap();
    let url = cluster.url("parlance");
    let timeout = ["--database-timeout", "1s"];
    let user_service = RunningUserService::launch(user_service_config(&url, &timeout)).await;
    user_service.wait_until_serving().await;
    let address = user_service.address().to_string();
    let flags = ["--database-timeout", "1s", "--writers", "2"];
    let message_service = RunningMessageService::start(message_service_config(&url, &address, &flags)).await;
    for name in ["ann", "ben"] {
        user_service.create(name).await;
    }
    message_service.conversations().create_conversation(group("g", "ann", &["ben"])).await.unwrap();
    let mut outside = PgConnection::connect(&url).await.unwrap();
    set_standby(&mut outside, "ALTER SYSTEM SET synchronous_standby_names = 'ghost'").await;
    wait_until_commits_wait(&url).await;

    let until = Instant::now() + Duration::from_secs(15);
    let writers = (0..24).map(|writer| {
        let (user_service, message_service) = (&user_service, &message_service);
        async move {
            for n in 0.. {
                if Instant::now() > until {
                    break;
                }
                let id = format!("{writer}-{n}");
                let new =
                    CreateUserRequest { user_id: id.clone(), username: id.clone(), ..CreateUserRequest::default() };
                let message = SendMessageRequest { request_id: id.clone(), ..send("g", "ann", &id) };
                let (mut users, mut messages) = (user_service.users(), message_service.messages());
                let (created, sent) = tokio::join!(users.create_user(new), messages.send_message(message));
                for status in [created.unwrap_err(), sent.unwrap_err()] {
                    let (_, reason) = code_and_reason(&status);
                    let expected =
                        ["DATABASE_UNAVAILABLE", "OUTCOME_UNKNOWN", "CONVERSATION_BUSY", "USER_SERVICE_UNAVAILABLE"];
                    assert!(expected.contains(&&*reason), "{status:?}");
                }
            }
        }
    });
    let observed = async {
        let mut most = 0;
        while Instant::now() < until {
            most = count(&mut outside).await.max(most);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        most
    };
    let (most, _) = tokio::join!(observed, futures_util::future::join_all(writers));
    assert!(most <= MOST, "{most} connections, and {MOST} are documented");

    set_standby(&mut outside, "ALTER SYSTEM RESET synchronous_standby_names").await;
    let again = || async { message_service.messages().send_message(send("g", "ann", "after")).await };
    eventually(PATIENCE, again).await;
    assert!(count(&mut outside).await <= MOST);
}
