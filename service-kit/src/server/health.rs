//! `grpc.health.v1.Health` for probes and balancers: one state of the process under several names.
//!
//! `liveness` is up as long as the process runs, `startup` once it has started. `readiness`, the empty name and the names
//! of the services are up while started, ready and not draining. The database's part in it is [`super::readiness`].

use std::{pin::Pin, sync::Arc};

use futures_util::{Stream, stream};
use tokio::sync::watch;
use tonic::{Code, Request, Response, Status, async_trait, codec::CompressionEncoding};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus, health_server};

use super::settings::MAX_BUILT_IN_REQUEST_BYTES;
use crate::{
    failure::{Failure, Reason},
    lifecycle::Lifecycle,
    telemetry::metrics::{Gauge, gauge},
};

/// The generated server to add to the routes.
pub type HealthServer = health_server::HealthServer<Health>;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct State {
    started: bool,
    ready: bool,
    stage: Stage,
}

/// The stage of the shutdown, as in the lifecycle.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    #[default]
    Running,
    Draining,
    Ended,
}

/// The health of one process. Clones share it.
#[derive(Debug, Clone)]
pub struct Health {
    state: Arc<watch::Sender<State>>,
    services: Arc<[String]>,
    serving: Arc<[Gauge]>,
}

impl Health {
    /// Creates the health of a process that serves these full service names. Only `liveness` is up yet.
    pub fn new<'a>(services: impl IntoIterator<Item = &'a str>) -> Self {
        let services: Arc<[String]> = services.into_iter().map(str::to_owned).collect();
        let serving = services.iter().map(|name| gauge!("parlance_serving", "grpc_service" => name.clone())).collect();
        let health = Self { state: Arc::new(watch::Sender::new(State::default())), services, serving };
        health.count(State::default());
        health
    }

    /// Returns the service to add to the routes.
    pub fn server(&self) -> HealthServer {
        health_server::HealthServer::new(self.clone())
            .max_decoding_message_size(MAX_BUILT_IN_REQUEST_BYTES)
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Zstd)
    }

    /// Follows the stages of the lifecycle: draining is not serving, and closing ends the Watch streams, which would
    /// otherwise keep their connections open.
    pub fn follow(&self, lifecycle: &Lifecycle) {
        let (health, stages) = (self.clone(), lifecycle.clone());
        lifecycle.spawn("health", async move {
            stages.draining().cancelled().await;
            health.set_draining();
            stages.closing().cancelled().await;
            health.end();
        });
    }

    /// Marks the end of the start-up: migrated and listening.
    pub fn set_started(&self) {
        self.change(|state| state.started = true);
    }

    /// Sets whether the service can answer calls.
    pub fn set_ready(&self, ready: bool) {
        self.change(|state| state.ready = ready);
    }

    /// Ends readiness for good: [`set_ready`](Self::set_ready) has no effect any more.
    pub fn set_draining(&self) {
        self.change(|state| state.stage = state.stage.max(Stage::Draining));
    }

    /// Ends every Watch stream; later ones end after their first response.
    pub fn end(&self) {
        self.change(|state| state.stage = Stage::Ended);
    }

    /// True if the process is ready for calls.
    pub fn is_ready(&self) -> bool {
        self.state.borrow().is_serving()
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        self.state.send_if_modified(|state| {
            let before = *state;
            change(state);
            self.count(*state);
            *state != before
        });
    }

    fn count(&self, state: State) {
        self.serving.iter().for_each(|gauge| gauge.set(f64::from(u8::from(state.is_serving()))));
    }

    fn status(&self, name: &str, state: State) -> ServingStatus {
        let up = match name {
            "liveness" => true,
            "startup" => state.started,
            "" | "readiness" => state.is_serving(),
            service if self.services.iter().any(|known| known == service) => state.is_serving(),
            _ => return ServingStatus::ServiceUnknown,
        };
        if up { ServingStatus::Serving } else { ServingStatus::NotServing }
    }
}

impl State {
    fn is_serving(self) -> bool {
        self.started && self.ready && self.stage == Stage::Running
    }
}

#[async_trait]
impl health_server::Health for Health {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        let state = *self.state.borrow();
        match self.status(&request.get_ref().service, state) {
            ServingStatus::ServiceUnknown => {
                Err(Failure::new(Code::NotFound, Reason::Unspecified, "service not registered").into())
            }
            status => Ok(Response::new(HealthCheckResponse { status: status.into() })),
        }
    }

    /// Unlike `check` an unknown name is not an error but the status `SERVICE_UNKNOWN`, as the protocol demands.
    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let mut changes = self.state.subscribe();
        changes.mark_changed();
        let watcher = (self.clone(), request.into_inner().service, changes, None);
        let answers = stream::unfold(watcher, |(health, name, mut changes, last)| async move {
            loop {
                if last.is_some() && changes.borrow().stage == Stage::Ended {
                    return None;
                }
                changes.changed().await.ok()?;
                let state = *changes.borrow_and_update();
                let status = health.status(&name, state);
                if last != Some(status) {
                    let answer = HealthCheckResponse { status: status.into() };
                    return Some((Ok(answer), (health, name, changes, Some(status))));
                }
            }
        });
        Ok(Response::new(Box::pin(answers)))
    }
}
