//! Verifies tokens: chooses the source by the issuer, the key by the source, and checks the claims.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{sync::watch, time::sleep};

use super::{
    Issuer, KeyId, Principal, Via,
    jwks::{Jwks, Timing},
    seen::{self, Seen, SeenTokens},
    settings::Settings,
    source::{Keys, Origin, Source},
    token::{Claims, Parsed, Refusal, invalid},
};
use crate::{backoff::jittered, config::Problems, lifecycle::Lifecycle, telemetry::metrics::counter};

/// How often key files are read.
const RELOAD_EVERY: Duration = Duration::from_secs(10);

/// Verifies tokens. Cheap to clone; clones share keys and remembered tokens.
#[derive(Debug, Clone)]
pub struct Verifier {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    sources: Vec<Source>,
    skew: Duration,
    audience: String,
    /// Grows each time after the keys of a source changed.
    generation: watch::Sender<u64>,
    seen: SeenTokens,
}

impl Verifier {
    /// Reads the keys, and starts the tasks that keep them up to date.
    ///
    /// # Errors
    /// All files that cannot be used.
    pub fn start(settings: &Settings, lifecycle: &Lifecycle) -> Result<Self, Problems> {
        Self::start_with(settings, Timing::default(), lifecycle)
    }

    pub(super) fn start_with(settings: &Settings, timing: Timing, lifecycle: &Lifecycle) -> Result<Self, Problems> {
        let verifier = Self::open_with(settings, timing)?;
        if verifier.shared.sources.iter().any(Source::has_files) {
            let (reloading, stages) = (verifier.clone(), lifecycle.clone());
            lifecycle.spawn("token keys", async move {
                let work = async {
                    loop {
                        sleep(RELOAD_EVERY).await;
                        reloading.reload().await;
                    }
                };
                stages.closing().run_until_cancelled(work).await;
            });
        }
        for index in 0..verifier.shared.sources.len() {
            if verifier.jwks(index).is_some() {
                let (fetching, stages) = (verifier.clone(), lifecycle.clone());
                lifecycle.spawn("token key set", async move {
                    stages.closing().run_until_cancelled(fetching.keep_fetching(index)).await;
                });
            }
        }
        Ok(verifier)
    }

    /// Reads the keys once, and keeps nothing up to date: for a command that verifies a token and ends. Keys of an identity
    /// provider are there after [`fetch`](Self::fetch) only.
    ///
    /// # Errors
    /// All files that cannot be used.
    pub fn open(settings: &Settings) -> Result<Self, Problems> {
        Self::open_with(settings, Timing::default())
    }

    fn open_with(settings: &Settings, timing: Timing) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let sources = Source::all(settings, timing).map_err(|problem| problems.add(problem)).unwrap_or_default();
        for problem in sources.iter().filter_map(|source| source.load().err()).flatten() {
            problems.add(problem);
        }
        problems.into_result()?;
        let (skew, audience) = (settings.skew, settings.audience.clone());
        let (generation, seen) = (watch::Sender::default(), SeenTokens::default());
        Ok(Self { shared: Arc::new(Shared { sources, skew, audience, generation, seen }) })
    }

    /// Verifies a token at a time, and returns whom it is from.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn verify(&self, token: &str, now: SystemTime) -> Result<Arc<Principal>, Refusal> {
        let hash = seen::hash(token);
        // Read before the keys: a change in between makes what is remembered too old, never too new.
        let mut generation = *self.shared.generation.borrow();
        let skew = self.shared.skew;
        if let Some(seen) = self.shared.seen.get(&hash, generation, now, skew)? {
            self.source_of(&seen)?.check_available(now)?;
            return Ok(seen.principal);
        }
        let token = Parsed::parse(token)?;
        let issuer = token.issuer()?;
        let mut sources = self.shared.sources.iter().enumerate();
        let (index, source) =
            sources.find(|(_, source)| source.issuer == issuer).ok_or(invalid("no source has this issuer"))?;
        source.check_available(now)?;
        let mut keys = source.keys();
        let is_unknown = token.kid.as_deref().is_some_and(|kid| !keys.set.knows(kid));
        if is_unknown
            && let Origin::Jwks(jwks) = &source.origin
            && jwks.fetch_for_unknown_kid().await
        {
            generation = *self.shared.generation.borrow();
            keys = source.keys();
        }
        let key = keys.set.verify(&token)?.id.clone();
        let claims = token.claims(&source.rules)?;
        claims.times.check(now, skew)?;
        let times = claims.times;
        let principal = Arc::new(principal(claims, key));
        let seen = Seen { principal: principal.clone(), times, generation, source: index };
        self.shared.seen.insert(hash, seen);
        Ok(principal)
    }

    /// Fetches the keys of the identity provider once, if there is one: for a command that verifies a token and ends.
    ///
    /// # Errors
    /// One sentence; the keys stay as they are.
    pub async fn fetch(&self) -> Result<(), String> {
        for index in 0..self.shared.sources.len() {
            self.fetch_source(index).await.transpose()?;
        }
        Ok(())
    }

    /// Returns for how long the keys are good, or `None` where the source is no key set.
    async fn fetch_source(&self, index: usize) -> Option<Result<Duration, String>> {
        let (source, jwks) = (self.shared.sources.get(index)?, self.jwks(index)?);
        let fetched = jwks.fetch().await;
        Some(fetched.map(|fetched| {
            let (count, left_out) = (fetched.set.len(), fetched.left_out);
            if source.replace(Keys { set: fetched.set, signing: None }) {
                tracing::info!(issuer = source.issuer, keys = count, ?left_out, "token key set: changed");
                self.shared.generation.send_modify(|generation| *generation += 1);
            }
            jwks.succeeded(fetched.began);
            fetched.refetch_in
        }))
    }

    async fn keep_fetching(&self, index: usize) {
        let Some(jwks) = self.jwks(index) else { return };
        let mut requests = jwks.requests();
        let mut backoff = jwks.timing.backoff();
        loop {
            let request = *requests.borrow_and_update();
            let Some(fetched) = self.fetch_source(index).await else { return };
            jwks.served(request);
            let pause = match fetched {
                Ok(refetch_in) => {
                    backoff.reset();
                    jittered(refetch_in, 0.8..1.2)
                }
                Err(problem) => {
                    counter!("parlance_auth_reload_failed_total").increment(1);
                    tracing::error!(problem, "token key set: not fetched, the old keys stay");
                    backoff.next_pause()
                }
            };
            tokio::select! {
                () = sleep(pause) => {}
                _ = requests.changed() => {}
            }
        }
    }

    fn jwks(&self, index: usize) -> Option<&Jwks> {
        match &self.shared.sources.get(index)?.origin {
            Origin::Jwks(jwks) => Some(jwks),
            Origin::Secrets(_) | Origin::PublicKeys(_) => None,
        }
    }

    fn source_of(&self, seen: &Seen) -> Result<&Source, Refusal> {
        self.shared.sources.get(seen.source).ok_or(invalid("no source has this issuer"))
    }

    /// Returns whether a key is still one of the sources'. A stream ends when the key of its token is withdrawn.
    pub fn holds(&self, key: &KeyId) -> bool {
        self.shared.sources.iter().any(|source| source.keys().set.holds(key))
    }

    /// Returns a channel whose value changes each time after keys changed.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.shared.generation.subscribe()
    }

    /// Returns whether each source has keys, so that its tokens can be verified.
    pub fn is_ready(&self) -> bool {
        self.shared.sources.iter().all(|source| !source.keys().set.is_empty())
    }

    /// Returns one that signs tokens with the first secret, also after that file changed; `None` without secrets.
    pub fn issuer(&self) -> Option<Issuer> {
        let secrets = self.shared.sources.iter().find(|source| matches!(source.origin, Origin::Secrets(_)))?;
        Some(Issuer::following(secrets.keys.subscribe(), &self.shared.audience, secrets.rules.user_lifetime))
    }

    /// Reads the key files now, and returns when their keys are in use. Files that cannot be used leave the keys as they are.
    pub async fn reload(&self) {
        let reloading = self.clone();
        // Files may be on a slow mount.
        let reloaded = tokio::task::spawn_blocking(move || {
            // Every source, also after one that changed.
            let changed =
                reloading.shared.sources.iter().filter(|source| source.has_files() && source.reload()).count();
            if changed > 0 {
                reloading.shared.generation.send_modify(|generation| *generation += 1);
            }
        });
        if let Err(cause) = reloaded.await {
            tracing::error!(%cause, "token keys: reading the files failed");
        }
    }
}

fn principal(claims: Claims, key: KeyId) -> Principal {
    Principal {
        subject: claims.subject,
        role: claims.role,
        // Bounded far below 2^53. Both are rounded down, to the stricter side.
        issued_at: claims.times.issued_at.floor() as i64,
        expires_at: claims.times.expires_at.floor() as i64,
        key,
        jti: claims.jti,
        via: Via::Token,
    }
}

#[cfg(test)]
mod tests;
