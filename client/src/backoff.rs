//! How long to wait before the next try: longer each time, and never in step with others.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LAST: Duration = Duration::from_secs(5);

/// Counts tries that failed in a row.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// A try has succeeded.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// A try has failed; gives the pause, at least as long as the server has asked for. `random` is between 0 and 1.
    pub(crate) fn next(&mut self, asked_for: Option<Duration>, random: f64) -> Duration {
        let longest = FIRST.saturating_mul(1 << self.failures.min(10)).min(LAST);
        self.failures += 1;
        longest.mul_f64(random.clamp(0.0, 1.0)).max(asked_for.unwrap_or_default().min(LAST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_begin_again_after_success() {
        let mut backoff = Backoff::default();
        let longest: Vec<u128> = (0..9).map(|_| backoff.next(None, 1.0).as_millis()).collect();
        assert_eq!(longest, [100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
        backoff.reset();
        assert_eq!(backoff.next(None, 0.5), FIRST / 2);
        assert_eq!(backoff.next(Some(Duration::from_secs(1)), 0.0), Duration::from_secs(1));
        assert_eq!(backoff.next(Some(Duration::from_hours(1)), 0.0), LAST);
    }
}
