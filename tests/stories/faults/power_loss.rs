//! The power of the database's machine is cut under load: what its disk had not synced is lost. Nothing acknowledged is.
//!
//! The disk is a file system that the kernel stops between one write and the next. A disk that reports a sync before it has
//! written is not imitated.

use parlance_checker::{Kind, Recorder, Violation};
use tokio::sync::watch;

use super::{
    disk::{Deployment, Disk},
    fault::Fault,
    load::{Load, check_history, read_logs},
    run::{CONVERSATIONS, Run},
};
use crate::support::{PATIENCE, channel_to};

const MEGABYTES: u64 = 1024;

pub(super) async fn power_loss(mut fault: Fault) {
    // If it loses nothing without syncing either, this disk keeps what real ones lose.
    let without_sync = lose_power_without_sync(&fault).await;
    assert!(!without_sync.is_empty(), "nothing is lost with fsync=off: this shows nothing");
    fault.count_fact("promises broken by one with fsync=off", without_sync.len() as u64);
    while let Some(cuts) = fault.next_part() {
        let mut deployment = Deployment::new(Disk::new(MEGABYTES), ("fsync", "on")).await;
        let run = Run::begin(&fault, channel_to(deployment.message_service.address()));
        for _ in 0..cuts {
            run.at_a_random_moment(&mut fault).await;
            deployment.lose_power().await;
            deployment.turn_on().await.unwrap();
            run.recovers(&mut fault).await;
        }
        run.end(&mut fault, cuts, &deployment.message_service.messages()).await;
    }
    fault.end();
}

/// Cuts the power of a server that does not sync; returns every broken promise, or one if it cannot be started.
async fn lose_power_without_sync(fault: &Fault) -> Vec<Violation> {
    let mut deployment = Deployment::new(Disk::new(MEGABYTES), ("fsync", "off")).await;
    // Only the load can be lost.
    deployment.disk.sync();
    let (_moving, at) = watch::channel(channel_to(deployment.message_service.address()));
    let recorder = Recorder::default();
    let load = Load::begin(&recorder, "load", fault.senders(), &CONVERSATIONS, &at);
    load.wait_for(100).await;
    deployment.lose_power().await;
    if let Err(error) = deployment.turn_on().await {
        return vec![Violation { kind: Kind::Lost, what: error.to_string() }];
    }
    load.end().await;
    let logs = read_logs(&deployment.message_service.messages(), &CONVERSATIONS).await;
    check_history(&recorder, Vec::new(), &logs, PATIENCE).await
}
