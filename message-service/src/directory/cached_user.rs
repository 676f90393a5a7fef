//! The cached state of a user and its lifetime. Pure: the clock is a parameter.

use std::time::{Duration, Instant};

use super::{address::Address, change_feed::Generation};
use crate::domain::{ids::UserId, refusal::Refusal};

/// The longest TTL of an unknown user, who may be created the next moment, and of any state while change notifications
/// are down.
const MAX_UNWATCHED_TTL: Duration = Duration::from_secs(2);

/// The most ids in one refusal, since the headers of a response are bounded.
const MAX_NAMED_USERS: usize = 15;

/// The address of user-service and the lifetime of cached states.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The address.
    pub address: Address,
    /// The TTL of a cached state while change notifications arrive; at most 30 s.
    pub cache_ttl: Duration,
    /// The TTL of a cached "active" while user-service cannot be reached.
    pub fallback_ttl: Duration,
}

/// The state of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UserState {
    Active,
    Deactivated,
    Deleted,
    /// No user has this id.
    Unknown,
}

/// A user's state as user-service returned it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CachedUser {
    pub(super) state: UserState,
    /// Tokens of the user that were issued before this second since 1970 are void.
    pub(super) tokens_valid_after: Option<i64>,
    /// The time before the request was sent: the state may lack later changes.
    pub(super) requested_at: Instant,
    /// The generation of the change feed when the request was sent.
    pub(super) generation: Generation,
}

impl CachedUser {
    /// Returns the state of an id that no user has.
    pub(super) fn unknown(requested_at: Instant, generation: Generation) -> Self {
        Self { state: UserState::Unknown, tokens_valid_after: None, requested_at, generation }
    }

    /// Returns true within the cache TTL. `is_watched` is true while change notifications arrive.
    pub(super) fn is_current(&self, now: Instant, is_watched: bool, settings: &Settings) -> bool {
        let ttl = match self.state {
            UserState::Active | UserState::Deactivated | UserState::Deleted if is_watched => settings.cache_ttl,
            _ => settings.cache_ttl.min(MAX_UNWATCHED_TTL),
        };
        now.saturating_duration_since(self.requested_at) < ttl
    }

    /// Requires that a token of the user, issued at this second, was not revoked. Callers without a token of the user have
    /// none to revoke.
    ///
    /// # Errors
    /// `TokenRevoked`.
    pub(super) fn require_valid_token(&self, user_id: &UserId, issued_at: Option<i64>) -> Result<(), Refusal> {
        match (issued_at, self.tokens_valid_after) {
            (Some(issued_at), Some(after)) if issued_at < after => {
                Err(Refusal::TokenRevoked { user_id: user_id.clone() })
            }
            _ => Ok(()),
        }
    }

    /// Returns true within the fallback TTL: it may be used while user-service cannot be reached.
    pub(super) fn is_fallback(&self, now: Instant, settings: &Settings) -> bool {
        self.state == UserState::Active && now.saturating_duration_since(self.requested_at) < settings.fallback_ttl
    }
}

/// Requires all users of a request to be active.
///
/// # Errors
/// The refusal names every unknown user; if there is none, every deleted one; else every deactivated one (at most 15).
pub(super) fn require_active(users: &[(&UserId, UserState)]) -> Result<(), Refusal> {
    let in_state = |wanted: UserState| {
        let matching = users.iter().filter(|(_, state)| *state == wanted);
        let user_ids: Vec<UserId> = matching.map(|(id, _)| (*id).clone()).take(MAX_NAMED_USERS).collect();
        (!user_ids.is_empty()).then_some(user_ids)
    };
    if let Some(user_ids) = in_state(UserState::Unknown) {
        Err(Refusal::UserNotFound { user_ids })
    } else if let Some(user_ids) = in_state(UserState::Deleted) {
        Err(Refusal::UserDeleted { user_ids })
    } else if let Some(user_ids) = in_state(UserState::Deactivated) {
        Err(Refusal::UserDeactivated { user_ids })
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_expire_and_only_active_is_a_fallback() {
        let settings = Settings {
            address: "http://127.0.0.1:1".parse().unwrap(),
            cache_ttl: Duration::from_secs(20),
            fallback_ttl: Duration::from_mins(5),
        };
        let requested_at = Instant::now();
        for (state, cache_secs, fallback_secs) in [
            (UserState::Active, 20, 300),
            (UserState::Deactivated, 20, 0),
            (UserState::Deleted, 20, 0),
            (UserState::Unknown, 2, 0),
        ] {
            let user = CachedUser { state, tokens_valid_after: None, requested_at, generation: Generation::default() };
            for age in [0, 1, 2, 19, 20, 299, 300, 301] {
                let now = requested_at + Duration::from_secs(age);
                assert_eq!(user.is_current(now, true, &settings), age < cache_secs, "{state:?} after {age} s");
                assert_eq!(user.is_current(now, false, &settings), age < 2, "{state:?} after {age} s, unwatched");
                assert_eq!(user.is_fallback(now, &settings), age < fallback_secs, "{state:?} after {age} s");
            }
        }
    }
}
