//! The database's disk is full under load: no send is acknowledged that is not stored, and once there is room, sends go on.

use std::time::Duration;

use tokio::time::timeout;
use tonic::Code;

use super::{
    disk::{Deployment, Disk},
    fault::Fault,
    run::Run,
};
use crate::support::{PATIENCE, channel_to, code_and_reason, eventually, group, send_as};

pub(super) async fn full_disk(mut fault: Fault) {
    while let Some(rounds) = fault.next_part() {
        let mut deployment = Deployment::new(Disk::new(512), ("min_wal_size", "32MB")).await;
        let apart = group("apart", "ann", &["ben"]);
        deployment.message_service.conversations().create_conversation(apart).await.unwrap();
        let run = Run::begin(&fault, channel_to(deployment.message_service.address()));
        for round in 0..rounds {
            run.at_a_random_moment(&mut fault).await;
            deployment.disk.fill();
            wait_until_refused(&deployment, round).await;
            deployment.disk.make_room();
            // Without room for its log PostgreSQL ends, and its supervisor starts it again.
            let cluster = deployment.cluster.as_mut().expect("a machine that is on");
            if timeout(Duration::from_secs(1), cluster.ended()).await.is_ok() {
                cluster.start_again().await.unwrap();
                fault.count_fact("restarts", 1);
            }
            run.recovers(&mut fault).await;
        }
        run.end(&mut fault, rounds, &deployment.message_service.messages()).await;
    }
    fault.end();
}

/// Sends to a conversation apart from the load until a send is refused for want of the database.
async fn wait_until_refused(deployment: &Deployment, round: usize) {
    let mut sent = 0;
    eventually(PATIENCE, || {
        sent += 1;
        let request = send_as(&format!("{round} {sent}"), "apart", "ann", &"x".repeat(4000));
        let mut messages = deployment.message_service.messages();
        async move {
            match messages.send_message(request).await {
                Err(status) if code_and_reason(&status) == (Code::Unavailable, "DATABASE_UNAVAILABLE".to_owned()) => {
                    Ok(())
                }
                other => Err(format!("{other:?}")),
            }
        }
    })
    .await;
}
