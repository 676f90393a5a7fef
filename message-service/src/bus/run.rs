//! Runs a bus: sends the hints that wait at the exchange, and applies those of other replicas. A lost hint delays delivery
//! until the next poll of the outbox.

use std::{sync::Arc, time::Duration};

use service_kit::{backoff::Backoff, lifecycle::Lifecycle};

use super::{
    exchange::Exchange,
    hint::{Bus, Hint, Sink},
    metrics::BusMetrics,
};

/// The least time between two hints; hints in between are merged.
const SEND_INTERVAL: Duration = Duration::from_millis(5);

const RETRY: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));

/// Starts both directions. They end when the lifecycle is closing.
pub(crate) fn start(bus: impl Bus, exchange: &Exchange, sink: &impl Sink, lifecycle: &Lifecycle) {
    let bus = Arc::new(bus);
    lifecycle.spawn("bus", send_hints(bus.clone(), exchange.clone(), lifecycle.clone()));
    lifecycle.spawn("bus listener", receive_hints(bus, exchange.clone(), sink.clone(), lifecycle.clone()));
}

async fn send_hints(bus: Arc<impl Bus>, exchange: Exchange, lifecycle: Lifecycle) {
    let metrics = BusMetrics::sending();
    let work = async {
        let mut backoff = RETRY;
        loop {
            let hint = exchange.next().await;
            match bus.send(hint).await {
                Ok(()) => {
                    metrics.succeeded();
                    backoff.reset();
                    tokio::time::sleep(SEND_INTERVAL).await;
                }
                Err(error) => {
                    metrics.failed();
                    tracing::debug!(%error, "could not send a hint to the other replicas");
                    backoff.wait().await;
                }
            }
        }
    };
    lifecycle.closing().run_until_cancelled(Box::pin(work)).await;
}

async fn receive_hints(bus: Arc<impl Bus>, exchange: Exchange, sink: impl Sink, lifecycle: Lifecycle) {
    let metrics = BusMetrics::receiving();
    let work = async {
        let mut backoff = RETRY;
        loop {
            match bus.receive().await {
                Ok(hint) => {
                    metrics.succeeded();
                    backoff.reset();
                    apply(hint, &exchange, &sink);
                }
                Err(error) => {
                    metrics.failed();
                    tracing::debug!(%error, "could not receive hints of the other replicas");
                    backoff.wait().await;
                }
            }
        }
    };
    lifecycle.closing().run_until_cancelled(Box::pin(work)).await;
}

fn apply(hint: Hint, exchange: &Exchange, sink: &impl Sink) {
    let mut poll = hint.poll;
    for run in hint.entries {
        poll |= !sink.entries(&run.conversation_id, run.entries);
    }
    if poll {
        exchange.request_poll();
    }
    for ephemeral in &hint.ephemerals {
        sink.ephemeral(ephemeral);
    }
}
