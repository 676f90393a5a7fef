//! Runs a bus: sends the hints that wait at the exchange, and applies those of other replicas. A lost hint delays delivery
//! until the next poll of the outbox.

use std::{pin::pin, sync::Arc, time::Duration};

use service_kit::{backoff::Backoff, lifecycle::Lifecycle};

use super::{
    exchange::Exchange,
    hint::{Bus, Hint, Sink},
    metrics::BusMetrics,
};

/// The least time between two hints; hints in between are merged.
const SEND_INTERVAL: Duration = Duration::from_millis(5);

const RETRY: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));

/// Starts both directions. They end when the lifecycle is closing; hints are sent until the writers have ended, too.
pub(crate) fn start(bus: impl Bus, exchange: &Exchange, sink: &impl Sink, lifecycle: &Lifecycle) {
    let bus = Arc::new(bus);
    lifecycle.spawn("bus", send_hints(bus.clone(), exchange.clone(), lifecycle.clone()));
    lifecycle.spawn("bus listener", receive_hints(bus, exchange.clone(), sink.clone(), lifecycle.clone()));
}

async fn send_hints(bus: Arc<impl Bus>, exchange: Exchange, lifecycle: Lifecycle) {
    let metrics = BusMetrics::sending();
    let ended = async {
        lifecycle.closing().cancelled().await;
        exchange.writers_ended().await;
    };
    let work = async {
        let mut ended = pin!(ended);
        let mut backoff = RETRY;
        loop {
            let hint = tokio::select! {
                biased;
                () = &mut ended => break,
                hint = exchange.next() => hint,
            };
            match bus.send(hint).await {
                Ok(()) => {
                    metrics.succeeded();
                    backoff.reset();
                    tokio::time::sleep(SEND_INTERVAL).await;
                }
                Err(error) => {
                    metrics.failed();
                    tracing::debug!(%error, "could not send a hint to the other replicas");
                    tokio::select! {
                        () = &mut ended => break,
                        () = backoff.wait() => {}
                    }
                }
            }
        }
        // The last commits.
        if let Some(hint) = exchange.take()
            && let Err(error) = bus.send(hint).await
        {
            metrics.failed();
            tracing::debug!(%error, "could not send the last hint to the other replicas");
        }
    };
    lifecycle.killed().run_until_cancelled(Box::pin(work)).await;
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

#[cfg(test)]
mod tests {
    use service_kit::lifecycle::BoxError;
    use tokio::sync::mpsc;

    use super::*;

    struct Sent(mpsc::UnboundedSender<Hint>);

    impl Bus for Sent {
        async fn send(&self, hint: Hint) -> Result<(), BoxError> {
            self.0.send(hint).map_err(Into::into)
        }

        async fn receive(&self) -> Result<Hint, BoxError> {
            std::future::pending().await
        }
    }

    #[tokio::test]
    async fn the_last_commits_are_announced_after_closing() {
        let (lifecycle, exchange) = (Lifecycle::default(), Exchange::new(false));
        let (sender, mut sent) = mpsc::unbounded_channel();
        let writer = exchange.register_writer();
        let sending =
            lifecycle.spawn_job("bus", send_hints(Arc::new(Sent(sender)), exchange.clone(), lifecycle.clone()));
        lifecycle.closing().cancel();
        exchange.announce_commit();
        assert!(sent.recv().await.expect("a bus that waits for the writer").poll);
        exchange.announce_commit();
        drop(writer);
        sending.await.unwrap();
        assert!(sent.recv().await.expect("the last hint").poll);
    }
}
