//! The bus behind the doorbell: carries rings to the other replicas and theirs to this one, over PostgreSQL. Whatever it
//! loses comes with the next poll of the outbox.

use std::time::Duration;

use service_kit::{database::Settings, lifecycle::Lifecycle};

use crate::{
    log::doorbell::Doorbell,
    storage::doorbell::{Bell, Ear, pair},
};

/// The least time between two rings: those in between are one.
const RING_EVERY: Duration = Duration::from_millis(5);

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// Starts both directions, each with a connection made by `settings`. They end when the lifecycle is closing.
pub(crate) fn start(settings: &Settings, doorbell: &Doorbell, lifecycle: &Lifecycle) {
    let (bell, ear) = pair(settings);
    lifecycle.spawn("doorbell", ring(bell, doorbell.clone(), lifecycle.clone()));
    lifecycle.spawn("doorbell listener", listen(ear, doorbell.clone(), lifecycle.clone()));
}

async fn ring(mut bell: Bell, doorbell: Doorbell, lifecycle: Lifecycle) {
    let work = async {
        let mut pause = Pause::default();
        loop {
            doorbell.asked().await;
            match bell.ring().await {
                Ok(()) => {
                    pause = Pause::default();
                    tokio::time::sleep(RING_EVERY).await;
                }
                Err(error) => {
                    tracing::debug!(cause = &error as &dyn std::error::Error, "the doorbell was not rung");
                    pause.wait().await;
                }
            }
        }
    };
    lifecycle.closing().run_until_cancelled(Box::pin(work)).await;
}

async fn listen(mut ear: Ear, doorbell: Doorbell, lifecycle: Lifecycle) {
    let work = async {
        let mut pause = Pause::default();
        loop {
            match ear.hear().await {
                Ok(()) => {
                    pause = Pause::default();
                    doorbell.heard();
                }
                Err(error) => {
                    tracing::debug!(cause = &error as &dyn std::error::Error, "the doorbell is not heard");
                    pause.wait().await;
                }
            }
        }
    };
    lifecycle.closing().run_until_cancelled(Box::pin(work)).await;
}

/// Grows with every failure in a row, jittered.
#[derive(Default)]
struct Pause(Duration);

impl Pause {
    async fn wait(&mut self) {
        self.0 = (self.0 * 2).clamp(FIRST_PAUSE, LAST_PAUSE);
        tokio::time::sleep(self.0.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
    }
}
