//! Runs a bus: tells the other replicas what waits at the exchange, and brings what they tell. Whatever is lost on the way comes
//! with the next look at the outbox.

use std::{sync::Arc, time::Duration};

use service_kit::lifecycle::Lifecycle;

use crate::{
    bus::{Bus, Exchange, Hint},
    log::live::LiveLogs,
    metrics::BusMetrics,
};

/// The least time between two hints: those in between are one.
const TELL_EVERY: Duration = Duration::from_millis(5);

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// Starts both directions. They end when the lifecycle is closing.
pub(crate) fn start(bus: impl Bus, exchange: &Exchange, live: &LiveLogs, lifecycle: &Lifecycle) {
    let bus = Arc::new(bus);
    lifecycle.spawn("bus", tell(bus.clone(), exchange.clone(), lifecycle.clone()));
    lifecycle.spawn("bus listener", hear(bus, exchange.clone(), live.clone(), lifecycle.clone()));
}

async fn tell(bus: Arc<impl Bus>, exchange: Exchange, lifecycle: Lifecycle) {
    let counted = BusMetrics::telling();
    let work = async {
        let mut pause = Pause::default();
        loop {
            let hint = exchange.next().await;
            match bus.tell(hint).await {
                Ok(()) => {
                    counted.worked();
                    pause = Pause::default();
                    tokio::time::sleep(TELL_EVERY).await;
                }
                Err(error) => {
                    counted.failed();
                    tracing::debug!(%error, "the other replicas were not told");
                    pause.wait().await;
                }
            }
        }
    };
    lifecycle.closing().run_until_cancelled(Box::pin(work)).await;
}

async fn hear(bus: Arc<impl Bus>, exchange: Exchange, live: LiveLogs, lifecycle: Lifecycle) {
    let counted = BusMetrics::hearing();
    let work = async {
        let mut pause = Pause::default();
        loop {
            match bus.hear().await {
                Ok(hint) => {
                    counted.worked();
                    pause = Pause::default();
                    heed(hint, &exchange, &live);
                }
                Err(error) => {
                    counted.failed();
                    tracing::debug!(%error, "the other replicas are not heard");
                    pause.wait().await;
                }
            }
        }
    };
    lifecycle.closing().run_until_cancelled(Box::pin(work)).await;
}

fn heed(hint: Hint, exchange: &Exchange, live: &LiveLogs) {
    let mut look = hint.look;
    for entries in hint.entries {
        look |= !live.append_from_replica(&entries.conversation_id, entries.frames);
    }
    if look {
        exchange.request_poll();
    }
    for ephemeral in &hint.ephemerals {
        live.broadcast_ephemeral(ephemeral);
    }
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
