//! Exponential back-off with jitter between attempts to connect.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LAST: Duration = Duration::from_secs(5);

/// Counts consecutive failures.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Starts over after a success.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// Counts a failure and returns the pause before the next attempt, which is at least the delay that the server
    /// requested. `random` is between 0 and 1.
    pub(crate) fn next(&mut self, requested: Option<Duration>, random: f64) -> Duration {
        let longest = FIRST.saturating_mul(1 << self.failures.min(10)).min(LAST);
        self.failures += 1;
        longest.mul_f64(random.clamp(0.0, 1.0)).max(requested.unwrap_or_default().min(LAST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_start_over_after_success() {
        let mut backoff = Backoff::default();
        let longest: Vec<u128> = (0..9).map(|_| backoff.next(None, 1.0).as_millis()).collect();
        assert_eq!(longest, [100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
        backoff.reset();
        assert_eq!(backoff.next(None, 0.5), FIRST / 2);
        assert_eq!(backoff.next(Some(Duration::from_secs(1)), 0.0), Duration::from_secs(1));
        assert_eq!(backoff.next(Some(Duration::from_hours(1)), 0.0), LAST);
    }
}
