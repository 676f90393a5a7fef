//! Turns the credentials of a call into its caller: the one way in.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use tokio::sync::watch;

use super::{Caller, Issuer, Mode, Principal, Refusal, Settings, Verifier, Via, token::invalid};
use crate::{config::Problems, failure::Failure, lifecycle::Lifecycle, sync::lock, telemetry::metrics::counter};

/// How often calls without a token are reported while they are let through.
const REPORT_EVERY: Duration = Duration::from_mins(1);

/// Decides who calls, by the headers of a call. Cheap to clone; clones share the keys.
#[derive(Debug, Clone)]
pub struct Authenticator {
    mode: Mode,
    skew: Duration,
    /// `None` while every caller is trusted.
    verifier: Option<Verifier>,
    changes: watch::Receiver<u64>,
    reported_at: Arc<Mutex<Option<Instant>>>,
}

impl Authenticator {
    /// Returns one that trusts every caller.
    pub fn off() -> Self {
        Self::new(Mode::Off, Duration::ZERO, None)
    }

    /// Reads the keys, and starts the tasks that keep them up to date.
    ///
    /// # Errors
    /// All files that cannot be used.
    pub fn start(settings: &Settings, lifecycle: &Lifecycle) -> Result<Self, Problems> {
        let has_verifier = settings.mode != Mode::Off;
        let verifier = has_verifier.then(|| Verifier::start(settings, lifecycle)).transpose()?;
        Ok(Self::new(settings.mode, settings.skew, verifier))
    }

    fn new(mode: Mode, skew: Duration, verifier: Option<Verifier>) -> Self {
        let changes = verifier.as_ref().map_or_else(|| watch::channel(0).1, Verifier::changed);
        Self { mode, skew, verifier, changes, reported_at: Arc::default() }
    }

    /// Returns one that signs tokens, if there is a secret.
    pub fn issuer(&self) -> Option<Issuer> {
        self.verifier.as_ref().and_then(Verifier::issuer)
    }

    /// Waits until tokens of each source can be verified.
    pub(crate) async fn ready(&self) {
        let Some(verifier) = &self.verifier else { return };
        let mut changes = verifier.changed();
        while !verifier.is_ready() && changes.changed().await.is_ok() {}
    }

    /// Returns the caller of a call with these headers, and takes the token out of them: it is passed on to nobody. `peer` is
    /// the client by the certificate of its connection, which counts where there is no token.
    ///
    /// # Errors
    /// UNAUTHENTICATED for a token that is not good or a certificate that has ended, UNAVAILABLE while the keys cannot be had.
    pub(crate) async fn authenticate(
        &self,
        headers: &mut HeaderMap,
        peer: Option<&Arc<Principal>>,
    ) -> Result<Caller, Failure> {
        let Some(verifier) = &self.verifier else { return Ok(Caller::Trusted) };
        let mut given = headers.get_all(AUTHORIZATION).iter();
        let caller = match (given.next(), given.next()) {
            (None, _) => match peer {
                Some(peer) if has_ended(peer, SystemTime::now()) => return Err(Refusal::Expired.into()),
                Some(peer) => Caller::Known(Arc::clone(peer)),
                None if self.mode == Mode::Permissive => Caller::Trusted,
                None => Caller::Anonymous,
            },
            (Some(_), Some(_)) => return Err(invalid("there are two headers authorization").into()),
            (Some(header), None) => {
                let token = bearer(header).ok_or(invalid("the header authorization is not Bearer and a token"))?;
                Caller::Known(verifier.verify(token, SystemTime::now()).await?)
            }
        };
        headers.remove(AUTHORIZATION);
        Ok(caller)
    }

    /// Counts a call that is let through without a token, though it would not be in the mode `required`.
    pub(crate) fn note_without_token(&self, service: &str, method: &str) {
        if self.mode != Mode::Permissive {
            return;
        }
        counter!("parlance_calls_without_token_total", "grpc_service" => service.to_owned(), "grpc_method" => method.to_owned())
            .increment(1);
        let mut reported_at = lock(&self.reported_at);
        if reported_at.is_none_or(|at| at.elapsed() >= REPORT_EVERY) {
            *reported_at = Some(Instant::now());
            tracing::warn!(
                rpc.service = service,
                rpc.method = method,
                "calls without a token are let through, this one among them: --auth is permissive"
            );
        }
    }

    /// Verifies a token.
    ///
    /// # Errors
    /// UNAUTHENTICATED for a token that is not good, UNAVAILABLE while the keys cannot be had.
    pub(super) async fn verify(&self, token: &str) -> Result<Arc<Principal>, Failure> {
        let Some(verifier) = &self.verifier else { return Err(invalid("tokens are not verified here").into()) };
        Ok(verifier.verify(token, SystemTime::now()).await?)
    }

    /// Returns a channel that changes whenever the keys do.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }

    /// Returns whether the key of a token is still among those that vouch for callers. Of certificates, the server sends the
    /// connections away.
    pub(super) fn holds(&self, principal: &Principal) -> bool {
        match principal.via {
            Via::Certificate => true,
            Via::Token => self.verifier.as_ref().is_none_or(|verifier| verifier.holds(&principal.key)),
        }
    }

    /// Returns how far clocks may differ.
    pub(super) fn clock_skew(&self) -> Duration {
        self.skew
    }
}

/// Returns whether a certificate that was good when its connection began has ended since.
fn has_ended(peer: &Principal, now: SystemTime) -> bool {
    let end = UNIX_EPOCH.checked_add(Duration::from_secs(peer.expires_at.max(0).unsigned_abs()));
    end.is_some_and(|end| now >= end)
}

/// Returns the token of a header, whatever it is.
fn bearer(header: &HeaderValue) -> Option<&str> {
    let (scheme, token) = header.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}
