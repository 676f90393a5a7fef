//! Computes the figures of a table from times.

use std::time::Duration;

/// Percentiles of times in milliseconds. A time may be negative: it is between two events that do not wait for each other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Figures {
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl Figures {
    /// Computes the figures of one round from times in milliseconds; `None` if there are none.
    pub(crate) fn of(mut times: Vec<f64>) -> Option<Self> {
        times.sort_by(f64::total_cmp);
        let max = *times.last()?;
        // The smallest time that is not below this part of the times.
        let percentile = |part: f64| times[((times.len() as f64 * part).ceil() as usize).max(1) - 1];
        Some(Self { p50: percentile(0.5), p90: percentile(0.9), p99: percentile(0.99), max })
    }

    /// Combines several rounds: the median of each figure, so that a disturbed round does not count, but the largest of all
    /// maxima.
    pub(crate) fn over(rounds: &[Self]) -> Option<Self> {
        let median_of = |figure: fn(&Self) -> f64| median(rounds.iter().map(figure).collect());
        Some(Self {
            p50: median_of(|round| round.p50)?,
            p90: median_of(|round| round.p90)?,
            p99: median_of(|round| round.p99)?,
            max: rounds.iter().map(|round| round.max).max_by(f64::total_cmp)?,
        })
    }
}

/// Returns the median.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() {
        0 => None,
        count if count % 2 == 1 => Some(values[half]),
        _ => Some(f64::midpoint(values[half - 1], values[half])),
    }
}

/// Converts to milliseconds.
pub(crate) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_time_that_was_measured() {
        let times = (1..=200).rev().map(f64::from).collect();
        assert_eq!(Figures::of(times), Some(Figures { p50: 100.0, p90: 180.0, p99: 198.0, max: 200.0 }));
        assert_eq!(Figures::of(vec![-1.5]), Some(Figures { p50: -1.5, p90: -1.5, p99: -1.5, max: -1.5 }));
        assert_eq!(Figures::of(Vec::new()), None);
    }

    #[test]
    fn rounds_are_one_by_their_median_but_the_worst_stays_the_worst() {
        let round = |base: f64| Figures { p50: base, p90: base + 1.0, p99: base + 2.0, max: base + 3.0 };
        let over = Figures::over(&[round(1.0), round(90.0), round(3.0)]);
        assert_eq!(over, Some(Figures { p50: 3.0, p90: 4.0, p99: 5.0, max: 93.0 }));
        assert_eq!((median(vec![4.0, 1.0]), median(Vec::new())), (Some(2.5), None));
    }
}
