//! Pauses between attempts: longer after each failure up to a bound, and jittered so that clients and replicas that failed
//! together do not retry together.

use std::{ops::Range, time::Duration};

/// Returns the duration times a random factor of the range.
pub fn jittered(duration: Duration, factor: Range<f64>) -> Duration {
    scaled(duration, factor, fastrand::f64())
}

fn scaled(duration: Duration, factor: Range<f64>, random: f64) -> Duration {
    duration.mul_f64(factor.start + (factor.end - factor.start) * random.clamp(0.0, 1.0))
}

/// Counts consecutive failures and derives the pause before the next attempt from their number.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    /// Starts at `first`, doubles with every failure and stays at `longest`.
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, failures: 0 }
    }

    /// Starts over, after an attempt that succeeded.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Returns the pause after another failure: the bound of this attempt times a random factor from 0.5 to 1.
    pub fn next_pause(&mut self) -> Duration {
        self.next_pause_with(fastrand::f64())
    }

    /// Does the same with a random number from 0 to 1 that the caller provides.
    pub(crate) fn next_pause_with(&mut self, random: f64) -> Duration {
        let bound = self.first.saturating_mul(1 << self.failures.min(20)).min(self.longest);
        self.failures = self.failures.saturating_add(1);
        scaled(bound, 0.5..1.0, random)
    }

    /// Sleeps for [`next_pause`](Self::next_pause).
    pub async fn wait(&mut self) {
        tokio::time::sleep(self.next_pause()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_bound_and_start_over_after_success() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        let longest: Vec<u128> = (0..9).map(|_| backoff.next_pause_with(1.0).as_millis()).collect();
        assert_eq!(longest, [100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
        backoff.reset();
        assert_eq!(backoff.next_pause_with(1.0), Duration::from_millis(100));
    }

    #[test]
    fn jitter_takes_up_to_half() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        let pauses: Vec<u128> = [0.0, 0.5, 1.0].map(|random| backoff.next_pause_with(random).as_millis()).to_vec();
        assert_eq!(pauses, [50, 150, 400]);
        for random in [-1.0, 7.0] {
            let pause = scaled(Duration::from_secs(4), 0.75..1.25, random);
            assert!((Duration::from_secs(3)..=Duration::from_secs(5)).contains(&pause), "{pause:?}");
        }
    }

    #[test]
    fn many_failures_do_not_overflow() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_mins(1));
        for _ in 0..10_000 {
            backoff.next_pause();
        }
        assert!(backoff.next_pause() >= Duration::from_secs(30));
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_takes_the_pause() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(1));
        let began = tokio::time::Instant::now();
        backoff.wait().await;
        assert!((Duration::from_millis(500)..=Duration::from_millis(1002)).contains(&began.elapsed()));
    }
}
