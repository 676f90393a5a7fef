//! Verifies tokens: chooses the source by the issuer, the key by the source, and checks the claims.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{sync::watch, time::sleep};

use super::{
    Issuer, KeyId, Principal, Via,
    keys::KeySet,
    seen::{self, Seen, SeenTokens},
    settings::Settings,
    source::{Origin, Source},
    token::{Claims, Parsed, Refusal, invalid},
};
use crate::{config::Problems, lifecycle::Lifecycle};

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
        let verifier = Self::open(settings)?;
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
        Ok(verifier)
    }

    /// Reads the keys once: for a command that verifies a token and ends.
    ///
    /// # Errors
    /// All files that cannot be used.
    pub fn open(settings: &Settings) -> Result<Self, Problems> {
        let sources = Source::all(settings);
        let mut problems = Problems::default();
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
        let generation = *self.shared.generation.borrow();
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
        let key = signer(&source.keys().set, &token)?;
        let claims = token.claims(&source.rules)?;
        claims.times.check(now, skew)?;
        let times = claims.times;
        let principal = Arc::new(principal(claims, key));
        let seen = Seen { principal: principal.clone(), times, generation, source: index };
        self.shared.seen.insert(hash, seen);
        Ok(principal)
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

fn signer(keys: &KeySet, token: &Parsed<'_>) -> Result<KeyId, Refusal> {
    keys.verify(token).map(|key| key.id.clone())
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
