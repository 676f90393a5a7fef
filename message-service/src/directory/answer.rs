//! What user-service said about a user, and for how long that may be gone by. Pure: the clock is a parameter.

use std::time::{Duration, Instant};

use super::{Address, feed::Generation};

/// An unknown user may be made the next moment, and what nobody tells of may have changed: those answers are never fresh for
/// longer.
const MAX_UNWATCHED_FRESH: Duration = Duration::from_secs(2);

/// Where user-service is and for how long its answers hold.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where it is.
    pub address: Address,
    /// For how long an answer is gone by without asking again while changes are told of; at most 30 s.
    pub fresh: Duration,
    /// For how long the last answer "active" is gone by while user-service gives none.
    pub stale: Duration,
}

/// What a user may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Active,
    Deactivated,
    Deleted,
    /// No such user.
    Unknown,
}

/// One answer of user-service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) standing: Standing,
    /// Before the question was sent: what changed since may not be in the answer.
    pub(super) asked_at: Instant,
    /// The generation in which the question was put, see [`super::feed::Feed`].
    pub(super) asked_in: Generation,
}

impl Answer {
    /// Good without asking again. `is_watched` says that changes are told of.
    pub(super) fn is_fresh(&self, now: Instant, is_watched: bool, settings: &Settings) -> bool {
        let most = match self.standing {
            Standing::Active | Standing::Deactivated | Standing::Deleted if is_watched => settings.fresh,
            _ => settings.fresh.min(MAX_UNWATCHED_FRESH),
        };
        now.saturating_duration_since(self.asked_at) < most
    }

    /// Good enough while user-service gives no answer.
    pub(super) fn holds(&self, now: Instant, settings: &Settings) -> bool {
        self.standing == Standing::Active && now.saturating_duration_since(self.asked_at) < settings.stale
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ages_and_only_active_outlives_its_freshness() {
        let settings = Settings {
            address: "http://127.0.0.1:1".parse().unwrap(),
            fresh: Duration::from_secs(20),
            stale: Duration::from_mins(5),
        };
        let asked_at = Instant::now();
        for (standing, fresh_secs, holds_secs) in [
            (Standing::Active, 20, 300),
            (Standing::Deactivated, 20, 0),
            (Standing::Deleted, 20, 0),
            (Standing::Unknown, 2, 0),
        ] {
            let answer = Answer { standing, asked_at, asked_in: Generation::default() };
            for age in [0, 1, 2, 19, 20, 299, 300, 301] {
                let now = asked_at + Duration::from_secs(age);
                assert_eq!(answer.is_fresh(now, true, &settings), age < fresh_secs, "{standing:?} after {age} s");
                assert_eq!(answer.is_fresh(now, false, &settings), age < 2, "{standing:?} after {age} s, unwatched");
                assert_eq!(answer.holds(now, &settings), age < holds_secs, "{standing:?} after {age} s");
            }
        }
    }
}
