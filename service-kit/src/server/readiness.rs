//! Readiness that does not flap: it is lost only after the database has failed for a while, and regained at once.
//!
//! All replicas share one database; were they to go unready at the first failed probe, callers would get connection
//! errors in place of UNAVAILABLE with retry advice.

use std::{error::Error, future::Future, time::Duration};

use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::health::Health;
use crate::{causes::causes, lifecycle::Lifecycle};

/// The intervals and timeouts of probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probing {
    /// Time from probe to probe.
    pub interval: Duration,
    /// The timeout of one probe.
    pub timeout: Duration,
    /// The time for which all probes must fail before readiness is lost.
    pub tolerance: Duration,
}

impl Default for Probing {
    /// A probe a second, 2 s each, unready after 12 s: between the 10 and 15 s that a failover or a restart takes.
    fn default() -> Self {
        Self { interval: Duration::from_secs(1), timeout: Duration::from_secs(2), tolerance: Duration::from_secs(12) }
    }
}

/// Probes as a task of the lifecycle, from now until draining. The first success makes the process ready.
pub fn watch<P, F, E>(health: &Health, lifecycle: &Lifecycle, probing: Probing, probe: P)
where
    P: FnMut() -> F + Send + 'static,
    F: Future<Output = Result<(), E>> + Send,
    E: Into<Box<dyn Error + Send + Sync>> + Send,
{
    let (health, stages) = (health.clone(), lifecycle.clone());
    lifecycle.spawn("readiness", async move {
        stages.draining().run_until_cancelled(run(health, probing, probe)).await;
    });
}

async fn run<P, F, E>(health: Health, probing: Probing, mut probe: P)
where
    P: FnMut() -> F,
    F: Future<Output = Result<(), E>>,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    let mut ticks = interval(probing.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failing_since: Option<Instant> = None;
    let mut logged = None;
    let mut ready = false;

    loop {
        let asked = ticks.tick().await;
        let problem = match timeout(probing.timeout, probe()).await {
            Ok(Ok(())) => None,
            Ok(Err(cause)) => Some(causes(&*cause.into())),
            Err(_) => Some("no answer in time".to_owned()),
        };
        match problem {
            None => {
                if !ready {
                    tracing::info!("ready: the database answers");
                }
                (failing_since, logged) = (None, None);
                ready = true;
                health.set_ready(true);
            }
            Some(cause) => {
                let since = *failing_since.get_or_insert(asked);
                // Not each probe: an outage has one cause, seldom a second one.
                if logged.as_ref() != Some(&cause) {
                    tracing::warn!(cause, "the database does not answer");
                    logged = Some(cause.clone());
                }
                if ready && since.elapsed() >= probing.tolerance {
                    tracing::error!(cause, "not ready: the database has not answered for {:?}", since.elapsed());
                    ready = false;
                    health.set_ready(false);
                }
            }
        }
    }
}
