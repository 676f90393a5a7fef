//! The calls to user-service: `GetUser`, retried a little when user-service was not reached, and `BatchGetUsers`, called
//! once.
//!
//! Bounded in number, time and retries, so that callers do not bury a user-service in trouble.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use parlance::user::v1::{self, BatchGetUsersRequest, GetUserRequest, user_service_client::UserServiceClient};
use service_kit::{auth::SelfToken, backoff::Backoff, telemetry::trace};
use tokio::{sync::Semaphore, time::timeout};
use tonic::{Code, Request, Response, Status, metadata::MetadataValue, transport::Channel};
use tracing::{Instrument, Span};

use super::{
    cached_user::{CachedUser, UserState},
    change_feed::Generation,
    metrics::CallMetrics,
    replicas::{Replica, Replicas},
};
use crate::domain::ids::UserId;

/// The most concurrent calls; others wait.
const MAX_CONCURRENT_CALLS: usize = 256;
/// The timeout of one call, including the wait for a permit.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// The timeout of one lookup, including its retries.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(4);
/// The most calls of one lookup.
const MAX_CALLS_PER_LOOKUP: u32 = 3;
const RETRY: Backoff = Backoff::new(Duration::from_millis(60), Duration::from_millis(120));

/// The error of a lookup. Cheap to clone, since many callers may share it.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum LookupError {
    /// The name of user-service has no address.
    #[error("the host name of user-service has no address")]
    NoAddress,
    /// The call failed.
    #[error("{:?}: {}", .0.code(), .0.message())]
    Failed(Arc<Status>),
    /// No response arrived in time.
    #[error("no response within {limit:?}")]
    Timeout { limit: Duration },
    /// The task that called is gone.
    #[error("the lookup was aborted")]
    Aborted,
}

impl LookupError {
    /// Returns true if the server that answered has no such method: it is no user-service.
    pub(super) fn is_of_another_service(&self) -> bool {
        matches!(self, Self::Failed(status) if status.code() == Code::Unimplemented)
    }

    /// Returns true if a retry is likely to succeed: user-service was not reached, was shutting down (a call that races a
    /// GOAWAY gets no response), or was briefly unavailable.
    fn is_transient(&self) -> bool {
        match self {
            // A status with a source was created by this client: no response arrived.
            Self::Failed(status) => {
                status.code() == Code::Unavailable || std::error::Error::source(&**status).is_some()
            }
            Self::NoAddress | Self::Timeout { .. } => true,
            Self::Aborted => false,
        }
    }
}

/// A client of user-service. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct UserClient {
    replicas: Replicas,
    token: Option<SelfToken>,
    permits: Arc<Semaphore>,
    metrics: CallMetrics,
}

impl UserClient {
    pub(super) fn new(replicas: Replicas, token: Option<SelfToken>) -> Self {
        Self { replicas, token, permits: Arc::new(Semaphore::new(MAX_CONCURRENT_CALLS)), metrics: CallMetrics::new() }
    }

    /// Gets the state of one user, within 4 s and three calls. The result carries `generation`.
    pub(super) async fn get_user(&self, user_id: &UserId, generation: Generation) -> Result<CachedUser, LookupError> {
        let end = Instant::now() + LOOKUP_TIMEOUT;
        let mut backoff = RETRY;
        let mut calls = 1;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let requested_at = Instant::now();
            let call = self.call(left, |mut client, limit| async move {
                let request = GetUserRequest { user_id: user_id.to_string(), ..Default::default() };
                client.get_user(self.request(request, Some(limit))?).await
            });
            let error = match call.instrument(span("GetUser")).await {
                Ok(user) => return cached(&user, requested_at, generation),
                Err(LookupError::Failed(status)) if status.code() == Code::NotFound => {
                    return Ok(CachedUser::unknown(requested_at, generation));
                }
                Err(error) => error,
            };
            let pause = backoff.next_pause();
            let is_late = Instant::now() + pause >= end;
            if is_late || calls >= MAX_CALLS_PER_LOOKUP || !error.is_transient() {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
            calls += 1;
        }
    }

    /// Gets the states of 1 to 1,000 users in one call, within `limit`.
    pub(super) async fn batch_get_users(
        &self,
        user_ids: &[UserId],
        generation: Generation,
        limit: Duration,
    ) -> Result<Vec<(UserId, CachedUser)>, LookupError> {
        let requested_at = Instant::now();
        let request = BatchGetUsersRequest { user_ids: user_ids.iter().map(ToString::to_string).collect() };
        let call = |mut client: UserServiceClient<_>, limit| async move {
            client.batch_get_users(self.request(request, Some(limit))?).await
        };
        let response = self.call(limit, call).instrument(span("BatchGetUsers")).await?;
        let none = CachedUser::unknown(requested_at, generation);
        let unknown = response.missing_user_ids.into_iter().map(|id| Ok((UserId::from_storage(id), none)));
        let known = response.users.into_iter().map(|user| {
            let state = cached(&user, requested_at, generation)?;
            Ok((UserId::from_storage(user.user_id), state))
        });
        unknown.chain(known).collect()
    }

    /// Returns a replica for a long-lived call, which takes no permit.
    pub(super) fn replica(&self) -> Option<Arc<Replica>> {
        self.replicas.pick()
    }

    /// Adds the service's own token, the timeout, so that user-service does not work on abandoned calls, and the trace context.
    pub(super) fn request<R>(&self, message: R, limit: Option<Duration>) -> Result<Request<R>, Status> {
        let mut request = Request::new(message);
        trace::inject(request.metadata_mut());
        if let Some(limit) = limit {
            request.set_timeout(limit);
        }
        if let Some(token) = &self.token {
            let header = token.header(SystemTime::now()).map_err(|error| Status::from_error(error.into()))?;
            let value = MetadataValue::try_from(header.as_bytes());
            let mut value = value.map_err(|error| Status::from_error(error.into()))?;
            value.set_sensitive(true);
            request.metadata_mut().insert("authorization", value);
        }
        Ok(request)
    }

    /// Calls a replica of user-service, once a permit is free.
    async fn call<R, F>(
        &self,
        left: Duration,
        call: impl FnOnce(UserServiceClient<Channel>, Duration) -> F,
    ) -> Result<R, LookupError>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let limit = left.min(CALL_TIMEOUT);
        let mut used = None;
        let attempt = async {
            let _permit = self.permits.acquire().await.map_err(|_| LookupError::Aborted)?;
            let replica = self.replicas.pick().ok_or(LookupError::NoAddress)?;
            let client = UserServiceClient::new(replica.channel());
            used = Some(replica);
            call(client, limit).await.map_err(|status| LookupError::Failed(Arc::new(status)))
        };
        let began = Instant::now();
        let outcome = timeout(limit, attempt).await.unwrap_or(Err(LookupError::Timeout { limit }));
        let is_not_found =
            |error: &LookupError| matches!(error, LookupError::Failed(status) if status.code() == Code::NotFound);
        let is_answered = outcome.as_ref().err().is_none_or(is_not_found);
        let seconds = if is_answered { &self.metrics.answered } else { &self.metrics.failed };
        seconds.record(began.elapsed());
        // A shorter timeout is the caller's and no evidence against the replica.
        if let Some(replica) = used.filter(|_| outcome.is_ok() || limit == CALL_TIMEOUT) {
            replica.record(outcome.as_ref().err().is_none_or(|error| !error.is_transient()));
        }
        outcome.map(Response::into_inner)
    }
}

/// Returns the span of one call, if traces are on.
fn span(method: &'static str) -> Span {
    if !trace::is_on() {
        return Span::none();
    }
    tracing::info_span!(
        "call user-service",
        otel.name = format_args!("parlance.user.v1.UserService/{method}"),
        otel.kind = "client",
        rpc.system = "grpc",
        rpc.service = "parlance.user.v1.UserService",
        rpc.method = method,
    )
}

fn cached(user: &v1::User, requested_at: Instant, generation: Generation) -> Result<CachedUser, LookupError> {
    let tokens_valid_after = user.tokens_valid_after.map(|moment| moment.seconds);
    Ok(CachedUser { state: state(user)?, tokens_valid_after, requested_at, generation })
}

fn state(user: &v1::User) -> Result<UserState, LookupError> {
    match user.state() {
        v1::UserState::Active => Ok(UserState::Active),
        v1::UserState::Deactivated => Ok(UserState::Deactivated),
        v1::UserState::Deleted => Ok(UserState::Deleted),
        v1::UserState::Unspecified => {
            let text = format!("user-service returned the unknown state {}", user.state);
            Err(LookupError::Failed(Arc::new(Status::internal(text))))
        }
    }
}
