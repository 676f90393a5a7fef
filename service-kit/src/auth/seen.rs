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
        Self::holding(MAX_TOKENS)
    }
}

impl SeenTokens {
    pub(super) fn holding(most: u64) -> Self {
        Self { tokens: Cache::builder().max_capacity(most).time_to_live(LIFE).build() }
    }

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
