//! The questions to user-service: `GetUser`, asked again a little when nothing was heard, and `BatchGetUsers`, asked once.
//!
//! Bounded in number, in time and in repeats, so that a user-service in trouble is not buried under its callers.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parlance::user::v1::{
    BatchGetUsersRequest, GetUserRequest, User, UserState, user_service_client::UserServiceClient,
};
use service_kit::telemetry::{
    metrics::{Histogram, histogram},
    trace,
};
use tokio::{sync::Semaphore, time::timeout};
use tonic::{Code, Request, Response, Status};
use tracing::{Instrument, Span};

use super::{
    answer::{Answer, Standing},
    feed::Generation,
    peers::{Peer, Peers},
};
use crate::domain::ids::UserId;

/// The most questions under way at a time; others wait for their turn.
const MAX_CALLS: usize = 256;
/// The most one call may take, its turn included.
const CALL_LIMIT: Duration = Duration::from_secs(2);
/// The most all calls of one question may take.
const QUESTION_LIMIT: Duration = Duration::from_secs(4);
/// The most calls of one question.
const MAX_CALLS_PER_QUESTION: u32 = 3;
/// Before the second call, doubled before the third; jittered down to half.
const PAUSE: Duration = Duration::from_millis(60);

/// Why there is no answer. Cheap to clone, since many may have waited for it.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum NoAnswer {
    /// The name of user-service has no address.
    #[error("the host name of user-service has no address")]
    NoAddress,
    /// The call failed.
    #[error("{:?}: {}", .0.code(), .0.message())]
    Failed(Arc<Status>),
    /// Nothing came in time.
    #[error("no answer within {limit:?}")]
    Silent { limit: Duration },
    /// The task that asked is gone.
    #[error("the question was dropped")]
    Lost,
}

impl NoAnswer {
    /// True when user-service, or another replica of it, may well answer at once: it was not reached, was on its way out
    /// (a call that races a GOAWAY is lost without a word), or refused for the moment.
    fn is_worth_another_call(&self) -> bool {
        match self {
            // A status that carries a source was made here: no answer was heard.
            Self::Failed(status) => {
                status.code() == Code::Unavailable || std::error::Error::source(&**status).is_some()
            }
            Self::NoAddress | Self::Silent { .. } => true,
            Self::Lost => false,
        }
    }
}

/// Asks user-service. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Asker {
    peers: Peers,
    turns: Arc<Semaphore>,
    answered: Histogram,
    failed: Histogram,
}

impl Asker {
    pub(super) fn new(peers: Peers) -> Self {
        let seconds = |outcome: &'static str| histogram!("parlance_directory_call_seconds", "outcome" => outcome);
        let turns = Arc::new(Semaphore::new(MAX_CALLS));
        Self { peers, turns, answered: seconds("answered"), failed: seconds("failed") }
    }

    /// Asks about one user, within 4 s and at most three calls. `asked_in` goes into the answer.
    pub(super) async fn get_user(&self, user_id: &UserId, asked_in: Generation) -> Result<Answer, NoAnswer> {
        let end = Instant::now() + QUESTION_LIMIT;
        let mut calls = 1;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let asked_at = Instant::now();
            let outcome = self.call(left, |mut client, limit| async move {
                let request = GetUserRequest { user_id: user_id.to_string(), ..Default::default() };
                client.get_user(timed(request, limit)).await
            });
            let outcome = outcome.instrument(span("GetUser"));
            let silence = match outcome.await {
                Ok(user) => return Ok(Answer { standing: standing(&user)?, asked_at, asked_in }),
                Err(NoAnswer::Failed(status)) if status.code() == Code::NotFound => {
                    return Ok(Answer { standing: Standing::Unknown, asked_at, asked_in });
                }
                Err(silence) => silence,
            };
            let pause = PAUSE.mul_f64(f64::from(calls) * (0.5 + fastrand::f64() / 2.0));
            let late = Instant::now() + pause >= end;
            if late || calls >= MAX_CALLS_PER_QUESTION || !silence.is_worth_another_call() {
                return Err(silence);
            }
            tokio::time::sleep(pause).await;
            calls += 1;
        }
    }

    /// Asks about 1 to 1,000 users in one call, within `limit`.
    pub(super) async fn batch_get_users(
        &self,
        user_ids: &[UserId],
        asked_in: Generation,
        limit: Duration,
    ) -> Result<Vec<(UserId, Answer)>, NoAnswer> {
        let asked_at = Instant::now();
        let request = BatchGetUsersRequest { user_ids: user_ids.iter().map(ToString::to_string).collect() };
        let call = |mut client: UserServiceClient<_>, limit| async move {
            client.batch_get_users(timed(request, limit)).await
        };
        let response = self.call(limit, call).instrument(span("BatchGetUsers")).await?;
        let unknown = response.missing_user_ids.into_iter().map(|id| Ok((UserId::from_storage(id), Standing::Unknown)));
        let known =
            response.users.into_iter().map(|user| Ok((UserId::from_storage(user.user_id.clone()), standing(&user)?)));
        unknown
            .chain(known)
            .map(|one| one.map(|(id, standing)| (id, Answer { standing, asked_at, asked_in })))
            .collect()
    }

    /// A replica for a call that lives on, which takes no turn.
    pub(super) fn peer(&self) -> Option<Arc<Peer>> {
        self.peers.pick()
    }

    /// One call, with a turn and a replica of user-service.
    async fn call<R, F>(
        &self,
        left: Duration,
        call: impl FnOnce(UserServiceClient<tonic::transport::Channel>, Duration) -> F,
    ) -> Result<R, NoAnswer>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let limit = left.min(CALL_LIMIT);
        let mut used = None;
        let attempt = async {
            let _turn = self.turns.acquire().await.map_err(|_| NoAnswer::Lost)?;
            let peer = self.peers.pick().ok_or(NoAnswer::NoAddress)?;
            let client = UserServiceClient::new(peer.channel());
            used = Some(peer);
            call(client, limit).await.map_err(|status| NoAnswer::Failed(Arc::new(status)))
        };
        let began = Instant::now();
        let outcome = timeout(limit, attempt).await.unwrap_or(Err(NoAnswer::Silent { limit }));
        let is_unknown =
            |silence: &NoAnswer| matches!(silence, NoAnswer::Failed(status) if status.code() == Code::NotFound);
        let is_answer = outcome.as_ref().err().is_none_or(is_unknown);
        let seconds = if is_answer { &self.answered } else { &self.failed };
        seconds.record(began.elapsed());
        // What was cut short for a caller in a hurry says nothing about the replica.
        if let Some(peer) = used.filter(|_| outcome.is_ok() || limit == CALL_LIMIT) {
            peer.note(outcome.as_ref().err().is_none_or(|silence| !silence.is_worth_another_call()));
        }
        outcome.map(Response::into_inner)
    }
}

/// Of one call, where traces are on.
fn span(method: &'static str) -> Span {
    if !trace::is_on() {
        return Span::none();
    }
    tracing::info_span!(
        "ask user-service",
        otel.name = format_args!("parlance.user.v1.UserService/{method}"),
        otel.kind = "client",
        rpc.system = "grpc",
        rpc.service = "parlance.user.v1.UserService",
        rpc.method = method,
    )
}

/// What is left of the time goes along, so that user-service does not work for nobody; and the trace that it is a part of.
fn timed<R>(request: R, limit: Duration) -> Request<R> {
    let mut request = Request::new(request);
    trace::inject(request.metadata_mut());
    request.set_timeout(limit);
    request
}

fn standing(user: &User) -> Result<Standing, NoAnswer> {
    match user.state() {
        UserState::Active => Ok(Standing::Active),
        UserState::Deactivated => Ok(Standing::Deactivated),
        UserState::Deleted => Ok(Standing::Deleted),
        UserState::Unspecified => {
            let text = format!("user-service gave the unknown state {}", user.state);
            Err(NoAnswer::Failed(Arc::new(Status::internal(text))))
        }
    }
}
