//! The doorbell between replicas: "something was committed, look". It says nothing else and may be lost; the outbox is what
//! counts (`replicas.rs`).
//!
//! This is the near side. A bus carries what is asked for at one replica to be heard at the others (`tasks/doorbell.rs`).

use std::sync::Arc;

use tokio::sync::Notify;

/// Rings at other replicas and hears them ring. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Doorbell {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    asked: Notify,
    heard: Notify,
}

impl Doorbell {
    /// Tells the other replicas that something was committed. Never waits, and many of these may become one.
    pub(super) fn ring(&self) {
        self.shared.asked.notify_one();
    }

    /// Waits until another replica has rung since the last time.
    pub(super) async fn rung(&self) {
        self.shared.heard.notified().await;
    }

    /// For the bus: waits until there is a reason to ring.
    pub(crate) async fn asked(&self) {
        self.shared.asked.notified().await;
    }

    /// For the bus: another replica has rung.
    pub(crate) fn heard(&self) {
        self.shared.heard.notify_one();
    }
}
