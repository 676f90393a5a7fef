//! Tokens whose signature was verified, so that a caller's second call costs no verification. Everything that can change
//! meanwhile is checked at each use: times here, keys by their generation.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_lc_rs::digest;
use moka::sync::Cache;

use super::{
    Principal,
    source::to_array,
    token::{Refusal, Times},
};

/// The most tokens remembered: about 30 MiB.
const MAX_TOKENS: u64 = 100_000;
/// The longest time for which a token is remembered.
const LIFE: Duration = Duration::from_mins(5);

/// The verified tokens, by the SHA-256 of the whole token. Refusals are not remembered.
#[derive(Debug)]
pub(super) struct SeenTokens {
    tokens: Cache<[u8; 32], Seen>,
}

/// A verified token.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) principal: Arc<Principal>,
    pub(super) times: Times,
    /// The generation of the keys that it was verified with.
    pub(super) generation: u64,
    /// The index of its source.
    pub(super) source: usize,
}

impl Default for SeenTokens {
    fn default() -> Self {
        Self { tokens: Cache::builder().max_capacity(MAX_TOKENS).time_to_live(LIFE).build() }
    }
}

impl SeenTokens {
    /// Returns a remembered token, if it was verified with keys of this generation.
    ///
    /// # Errors
    /// It has ended since.
    pub(super) fn get(
        &self,
        hash: &[u8; 32],
        generation: u64,
        now: SystemTime,
        skew: Duration,
    ) -> Result<Option<Seen>, Refusal> {
        let Some(seen) = self.tokens.get(hash).filter(|seen| seen.generation == generation) else { return Ok(None) };
        seen.times.check(now, skew)?;
        Ok(Some(seen))
    }

    pub(super) fn insert(&self, hash: [u8; 32], seen: Seen) {
        self.tokens.insert(hash, seen);
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> u64 {
        self.tokens.run_pending_tasks();
        self.tokens.entry_count()
    }
}

/// The key under which a token is remembered.
pub(super) fn hash(token: &str) -> [u8; 32] {
    to_array(&digest::digest(&digest::SHA256, token.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{KeyId, Role, Via, testing::at};

    fn seen(generation: u64) -> Seen {
        let principal = Arc::new(Principal {
            subject: "ada".into(),
            role: Role::User,
            issued_at: 0,
            expires_at: 0,
            key: KeyId::new("k"),
            jti: None,
            via: Via::Token,
        });
        let times = Times { issued_at: 0.0, expires_at: 1e10, not_before: None };
        Seen { principal, times, generation, source: 0 }
    }

    #[test]
    fn memory_is_bounded() {
        let seen = seen(0);
        let tokens = SeenTokens::default();
        let hashes = (0..=MAX_TOKENS).map(|number| hash(&number.to_string()));
        hashes.for_each(|hash| tokens.insert(hash, seen.clone()));
        assert!((1..=MAX_TOKENS).contains(&tokens.count()), "{}", tokens.count());
    }

    #[test]
    fn an_older_generation_counts_as_unknown() {
        let tokens = SeenTokens::default();
        tokens.insert(hash("a"), seen(1));
        let get = |token: &str, generation| tokens.get(&hash(token), generation, at(0), Duration::ZERO).unwrap();
        assert!(get("a", 1).is_some());
        assert!(get("a", 2).is_none());
        assert!(get("b", 1).is_none());
    }
}
