//! Others hold every connection that PostgreSQL allows, under load: calls are UNAVAILABLE, and go on once there is room.

use sqlx::{Connection, PgConnection};
use tonic::Code;

use super::{
    database_down::{Deployment, MAX_CONNECTIONS},
    fault::Fault,
    run::{CONVERSATIONS, Run},
};
use crate::support::{channel_to, code_and_reason, send_as};

pub(super) async fn exhaust_connections(mut fault: Fault) {
    while let Some(rounds) = fault.next_part() {
        let deployment = Deployment::with(&CONVERSATIONS).await;
        let run = Run::begin(&fault, channel_to(deployment.message_service.address()));
        for _ in 0..rounds {
            run.at_a_random_moment(&mut fault).await;
            let held = exhaust(&deployment.cluster.url("postgres")).await;
            let mut messages = deployment.message_service.messages();
            let refused = messages.send_message(send_as("refused", "none", "ann", "x")).await.unwrap_err();
            assert_eq!(code_and_reason(&refused), (Code::Unavailable, "DATABASE_UNAVAILABLE".to_owned()));
            for connection in held {
                let _ = connection.close().await;
            }
            run.recovers(&mut fault).await;
        }
        run.end(&mut fault, rounds, &deployment.message_service.messages()).await;
    }
    fault.end();
}

/// Ends the services' connections and takes the room of each, until no service has one.
async fn exhaust(url: &str) -> Vec<PgConnection> {
    let mut held = vec![PgConnection::connect(url).await.unwrap()];
    while held.len() < MAX_CONNECTIONS {
        let ended =
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name LIKE 'parlance%'";
        sqlx::raw_sql(ended).execute(&mut held[0]).await.unwrap();
        while let Ok(connection) = PgConnection::connect(url).await {
            held.push(connection);
        }
    }
    held
}
