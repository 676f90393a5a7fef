//! Reads the files of TLS again, and takes what has changed: certificate and key together, the authorities and the lists of
//! revoked certificates together. What cannot be used leaves what was read before in force.

use std::{path::Path, sync::Arc};

use tokio::{sync::MutexGuard, task::spawn_blocking, time::sleep};

use super::{
    Shared, Tls,
    load::{Loaded, Pair, Trust, tickets},
};
use crate::{
    lifecycle::Lifecycle,
    sync::lock,
    telemetry::metrics::{counter, gauge},
    tls::certificate::{Validity, fingerprint},
};

impl Tls {
    /// Reads the files again until the lifecycle is closing.
    pub(in crate::server) async fn follow(self, lifecycle: Lifecycle) {
        report(&*self.0.loaded.lock().await, &self.0.settings.certificate);
        let reloading = async {
            loop {
                sleep(self.0.settings.reload_interval).await;
                self.reload().await;
            }
        };
        lifecycle.closing().run_until_cancelled(reloading).await;
    }

    /// Reads the files now, and uses for new connections what has changed. Connections with a client certificate are closed
    /// gracefully if authorities or revocation lists have changed. What cannot be used is logged and counted.
    pub async fn reload(&self) {
        // One at a time, in the order of the calls.
        let loaded = self.0.loaded.lock().await;
        let settings = self.0.settings.clone();
        let read =
            spawn_blocking(move || (Pair::read(&settings), settings.clients.as_ref().map(Trust::read).transpose()));
        match read.await {
            Ok((pair, trust)) => self.0.take(loaded, pair, trust),
            Err(error) => tracing::error!(%error, "the files of TLS cannot be read again"),
        }
    }
}

impl Shared {
    fn take(
        &self,
        mut loaded: MutexGuard<'_, Loaded>,
        pair: Result<Pair, String>,
        trust: Result<Option<Trust>, String>,
    ) {
        let problems: Vec<String> =
            [pair.as_ref().err(), trust.as_ref().err()].into_iter().flatten().cloned().collect();
        counter!("parlance_tls_reload_failed_total").increment(problems.len() as u64);
        // Once for each problem, not at every attempt.
        for problem in problems.iter().filter(|problem| !loaded.problems.contains(problem)) {
            tracing::error!(problem, "what was read before is still used for TLS");
        }
        loaded.problems = problems;

        let pair = pair.ok().filter(|pair| pair.digest != loaded.pair.digest);
        let trust = trust.ok().flatten().filter(|new| loaded.trust.as_ref().is_none_or(|old| old.digest != new.digest));
        if pair.is_none() && trust.is_none() {
            return;
        }
        let has_certificate = pair.is_some();
        let mut next = loaded.next(pair, trust);
        // A ticket would bring back a client certificate that the new authorities and lists refuse.
        let withdrawn = loaded.withdrawn_by(&next);
        if withdrawn.is_some() {
            match tickets() {
                Ok(tickets) => next.tickets = tickets,
                Err(problem) => return tracing::error!(problem, "what was read before is still used for TLS"),
            }
        }
        match next.current(self.settings.min_version) {
            Ok(current) => *lock(&self.current) = Arc::new(current),
            Err(problem) => return tracing::error!(problem, "what was read before is still used for TLS"),
        }
        *loaded = next;
        if has_certificate {
            report(&loaded, &self.settings.certificate);
        }
        if let Some(withdrawn) = withdrawn {
            tracing::info!("new authorities or revocation lists of client certificates: their connections are closed");
            withdrawn.cancel();
        }
    }
}

/// Logs the certificate in use, and shows when it expires.
fn report(loaded: &Loaded, file: &Path) {
    let Some(certificate) = loaded.pair.certified.cert.first() else { return };
    let Some(Validity { not_before, not_after }) = Validity::of(certificate) else { return };
    gauge!("parlance_tls_certificate_expire_timestamp_seconds").set(not_after as f64);
    let (file, fingerprint) = (file.display(), fingerprint(certificate));
    if Validity::is_past(not_after) {
        tracing::error!(%file, fingerprint, not_after, "the certificate of the server has expired: replace it");
    } else {
        tracing::info!(%file, fingerprint, not_before, not_after, "the certificate of the server");
    }
}
