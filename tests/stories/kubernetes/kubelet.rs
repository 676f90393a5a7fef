//! The kubelet's part: real gRPC health checks, each on a new connection, with the periods and thresholds of the
//! manifest, and their consequences.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    sync::watch,
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};
use tonic::transport::Endpoint;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use super::manifest::{Manifest, Probe};
use crate::support::eventually;

/// The kubelet's view of a pod.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The startup probe has succeeded once.
    pub started: bool,
    /// Calls are routed to it.
    pub ready: bool,
    /// It would be restarted: it did not start in time, or liveness failed for too long.
    pub restart: bool,
}

/// Watches one pod until it is dropped.
pub struct Kubelet {
    verdict: watch::Receiver<Verdict>,
    _probes: JoinSet<()>,
}

impl Kubelet {
    /// Starts to watch a container that was just started.
    pub fn watch(manifest: &Manifest, address: SocketAddr) -> Self {
        let (verdicts, verdict) = watch::channel(Verdict::default());
        let Manifest { startup, readiness, liveness, .. } = manifest.clone();
        let mut probes = JoinSet::new();
        probes.spawn(async move {
            run(&startup, address, &verdicts, |verdict, passed| {
                verdict.started = passed;
                verdict.restart = !passed;
            })
            .await;
            let ready = run(&readiness, address, &verdicts, |verdict, passed| verdict.ready = passed);
            let alive = run(&liveness, address, &verdicts, |verdict, passed| verdict.restart |= !passed);
            tokio::join!(ready, alive);
        });
        Self { verdict, _probes: probes }
    }

    /// The current view of the pod.
    pub fn verdict(&self) -> Verdict {
        *self.verdict.borrow()
    }

    /// Waits for this view of the pod.
    pub async fn reaches(&self, wanted: Verdict, deadline: Duration) {
        eventually(deadline, || async {
            let verdict = self.verdict();
            if verdict == wanted { Ok(()) } else { Err(format!("{verdict:?}, not {wanted:?}")) }
        })
        .await;
    }
}

/// Probes periodically. Reports a success at once, and failures at the threshold. The startup probe ends with its first
/// report, the others never.
async fn run(
    probe: &Probe,
    address: SocketAddr,
    verdicts: &watch::Sender<Verdict>,
    report: impl Fn(&mut Verdict, bool),
) {
    let mut ticks = interval(probe.period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failed = 0;
    loop {
        ticks.tick().await;
        let passed =
            matches!(timeout(probe.timeout, ask(address, &probe.service)).await, Ok(Ok(ServingStatus::Serving)));
        failed = if passed { 0 } else { failed + 1 };
        if passed || failed >= probe.failures {
            verdicts.send_if_modified(|verdict| {
                let before = *verdict;
                report(verdict, passed);
                *verdict != before
            });
            let verdict = *verdicts.borrow();
            if probe.service == "startup" && (verdict.started || verdict.restart) {
                return;
            }
        }
    }
}

/// Checks the health of a name, on a new connection.
pub async fn ask(address: SocketAddr, service: &str) -> Result<ServingStatus, String> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|error| error.to_string())?;
    let channel = endpoint.connect().await.map_err(|error| format!("{error:?}"))?;
    let request = HealthCheckRequest { service: service.to_owned() };
    let answer = HealthClient::new(channel).check(request).await.map_err(|status| format!("{status:?}"))?;
    Ok(answer.into_inner().status())
}
