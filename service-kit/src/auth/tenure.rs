//! How long a call may go on: until its token ends, or the key of its token is withdrawn.
//!
//! A unary call is judged once, at its beginning. A stream asks its [`Tenure`] again and again, and its client may renew it.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::Extensions;
use tokio::{sync::watch, time::Instant};

use super::{Authenticator, Caller, Principal, Role, caller::not_allowed};
use crate::{
    backoff::jittered,
    failure::{Failure, Reason},
};

/// The time before the end of a token at which its client is told; of shorter tokens, half of their life.
const NOTICE: Duration = Duration::from_mins(1);
/// By how much earlier the notice may come, so that not all clients renew at once.
const NOTICE_JITTER: Duration = Duration::from_secs(20);
/// The longest sleep: the end is a time of the clock, which may be set meanwhile.
const LONGEST_SLEEP: Duration = Duration::from_mins(1);
/// The time that a handler has to end a stream itself, before it is ended from outside.
const GRACE: Duration = Duration::from_secs(5);

/// How long a call may go on. Cheap to clone; clones share the renewals.
#[derive(Debug, Clone, Default)]
pub struct Tenure(Kind);

#[derive(Debug, Clone, Default)]
enum Kind {
    /// Nobody is known by a token: the call may go on for ever.
    #[default]
    Unlimited,
    /// Of a unary call.
    Fixed(Arc<Principal>),
    Renewable(Arc<Renewable>),
}

#[derive(Debug)]
struct Renewable {
    principal: watch::Sender<Arc<Principal>>,
    authenticator: Authenticator,
}

/// A verified token with which a stream can go on.
#[derive(Debug)]
pub struct Renewed(Arc<Principal>);

impl Renewed {
    /// Returns what [`Tenure::issued_at`] would return then.
    pub fn issued_at(&self) -> Option<i64> {
        user_token_issued_at(&self.0)
    }
}

fn user_token_issued_at(principal: &Principal) -> Option<i64> {
    (principal.role == Role::User).then_some(principal.issued_at)
}

/// What happens to the tenure of a stream.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it is moved once, and rarely")]
pub enum Moment {
    /// The token ends soon: at this time, in seconds since 1970.
    Expiring(i64),
    /// The stream must end.
    Ended(Failure),
}

impl Tenure {
    /// Creates the tenure of a stream of this caller.
    pub(crate) fn of_stream(caller: &Caller, authenticator: &Authenticator) -> Self {
        match caller {
            Caller::Trusted | Caller::Anonymous => Self::default(),
            Caller::Known(principal) => Self(Kind::Renewable(Arc::new(Renewable {
                principal: watch::Sender::new(Arc::clone(principal)),
                authenticator: authenticator.clone(),
            }))),
        }
    }

    /// Returns the tenure of a call.
    pub fn of(extensions: &Extensions) -> Self {
        extensions.get().cloned().unwrap_or_else(|| match Caller::of(extensions) {
            Caller::Trusted | Caller::Anonymous => Self::default(),
            Caller::Known(principal) => Self(Kind::Fixed(principal)),
        })
    }

    /// Returns when the token of a user was issued, in seconds since 1970. `None` for other callers: what was revoked of a
    /// user does not concern them.
    pub fn issued_at(&self) -> Option<i64> {
        user_token_issued_at(&*self.principal()?)
    }

    fn principal(&self) -> Option<Arc<Principal>> {
        match &self.0 {
            Kind::Unlimited => None,
            Kind::Fixed(principal) => Some(Arc::clone(principal)),
            Kind::Renewable(shared) => Some(Arc::clone(&shared.principal.borrow())),
        }
    }

    /// Verifies another token for this stream, which must be of the same subject and role.
    ///
    /// # Errors
    /// UNAUTHENTICATED for a token that is not good, `CALLER_NOT_ALLOWED` for another caller.
    pub async fn verify(&self, token: &str) -> Result<Renewed, Failure> {
        let Kind::Renewable(shared) = &self.0 else {
            return Err(not_allowed("this stream was not opened with a token"));
        };
        let new = shared.authenticator.verify(token).await?;
        let is_same = {
            let old = shared.principal.borrow();
            (&old.subject, old.role) == (&new.subject, new.role)
        };
        if !is_same {
            return Err(not_allowed("the token is of another subject or role than the one that opened the stream"));
        }
        Ok(Renewed(new))
    }

    /// Goes on with the token that was verified.
    pub fn renew(&self, Renewed(new): Renewed) {
        if let Kind::Renewable(shared) = &self.0 {
            shared.principal.send_replace(new);
        }
    }

    /// Returns what a handler follows.
    pub fn follow(&self) -> Follow {
        Follow(match &self.0 {
            Kind::Unlimited | Kind::Fixed(_) => None,
            Kind::Renewable(shared) => Some(Box::new(Following::new(shared, Duration::ZERO))),
        })
    }

    /// Returns a future that completes once a handler should have ended the stream and has not; `None` for a call that may go
    /// on for ever.
    pub(crate) fn overrun(&self) -> Option<impl Future<Output = Failure> + Send + 'static + use<>> {
        let Kind::Renewable(shared) = &self.0 else { return None };
        let mut following = Following::new(shared, GRACE);
        Some(async move {
            loop {
                if let Moment::Ended(failure) = following.next().await {
                    return failure;
                }
            }
        })
    }
}

/// The moments of one stream.
#[derive(Debug, Default)]
pub struct Follow(Option<Box<Following>>);

impl Follow {
    /// Waits for the next moment. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Moment {
        match &mut self.0 {
            Some(following) => following.next().await,
            None => std::future::pending().await,
        }
    }
}

#[derive(Debug)]
struct Following {
    principal: watch::Receiver<Arc<Principal>>,
    authenticator: Authenticator,
    keys: watch::Receiver<u64>,
    /// Of each end, by how much later it is reported.
    grace: Duration,
    jitter: Duration,
    /// The token of which the client was told.
    told: Option<Arc<Principal>>,
    /// When to look at the clock again.
    look_at: Option<Instant>,
}

impl Following {
    fn new(shared: &Renewable, grace: Duration) -> Self {
        Self {
            principal: shared.principal.subscribe(),
            authenticator: shared.authenticator.clone(),
            keys: shared.authenticator.changes(),
            grace,
            jitter: jittered(NOTICE_JITTER, 0.0..1.0),
            told: None,
            look_at: None,
        }
    }

    async fn next(&mut self) -> Moment {
        loop {
            let principal = Arc::clone(&self.principal.borrow_and_update());
            self.keys.borrow_and_update();
            if !self.authenticator.holds(&principal) {
                tokio::time::sleep(self.grace).await;
                return Moment::Ended(Failure::of(Reason::TokenInvalid, "the key of the token was withdrawn"));
            }
            let look_at = match self.look_at {
                Some(at) if Instant::now() < at => at,
                _ => match self.judge(&principal, SystemTime::now()) {
                    Ok(sleep) => *self.look_at.insert(Instant::now() + sleep),
                    Err(moment) => return moment,
                },
            };
            tokio::select! {
                () = tokio::time::sleep_until(look_at) => self.look_at = None,
                // A closed channel: both senders live as long as the stream and its server.
                Ok(()) = self.principal.changed() => self.look_at = None,
                Ok(()) = self.keys.changed() => {}
            }
        }
    }

    /// Returns how long nothing happens, or what happens now.
    fn judge(&mut self, principal: &Arc<Principal>, now: SystemTime) -> Result<Duration, Moment> {
        let end = UNIX_EPOCH.checked_add(Duration::from_secs(principal.expires_at.max(0).unsigned_abs()));
        // A certificate may have no end.
        let Some(end) = end else { return Ok(LONGEST_SLEEP) };
        let Ok(left) = (end + self.authenticator.clock_skew() + self.grace).duration_since(now) else {
            return Err(Moment::Ended(Failure::of(Reason::TokenExpired, "the token of the stream has ended")));
        };
        let is_told = self.told.as_ref().is_some_and(|told| Arc::ptr_eq(told, principal));
        if is_told {
            return Ok(left.min(LONGEST_SLEEP));
        }
        let life = Duration::from_secs(principal.expires_at.abs_diff(principal.issued_at));
        let before = if life < 2 * NOTICE { life / 2 } else { NOTICE + self.jitter };
        match (end - before).duration_since(now) {
            Ok(to_notice) if !to_notice.is_zero() => Ok(to_notice.min(LONGEST_SLEEP)),
            _ => {
                self.told = Some(Arc::clone(principal));
                Err(Moment::Expiring(principal.expires_at))
            }
        }
    }
}
