//! The side requests of one session, one after the other.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use service_kit::failure::Failure;
use tokio::sync::OwnedSemaphorePermit;

use super::{super::context::Context, frame, reply::Reply, side_request::SideRequest};
use crate::actor::Actor;

struct Waiting {
    frame_id: u64,
    request: SideRequest,
    permit: OwnedSemaphorePermit,
}

/// The side requests of one session, of which one is handled at a time.
#[derive(Default)]
pub(super) struct SideRequests {
    waiting: VecDeque<Waiting>,
    pub(super) running: Option<BoxFuture<'static, Reply>>,
}

impl SideRequests {
    /// Adds one behind the others.
    pub(super) fn push(&mut self, frame_id: u64, request: SideRequest, permit: OwnedSemaphorePermit) {
        self.waiting.push_back(Waiting { frame_id, request, permit });
    }

    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_none()
    }

    /// Starts the next one, unless one is running.
    pub(super) fn start(&mut self, context: &Context, actor: &Actor, timeout: Duration) {
        if self.running.is_some() {
            return;
        }
        let Some(Waiting { frame_id, request, permit }) = self.waiting.pop_front() else { return };
        let (context, actor) = (context.clone(), actor.clone());
        self.running = Some(Box::pin(async move {
            let bytes = match request.handle(&context, &actor, Instant::now() + timeout).await {
                Ok((conversation_id, read_mark)) => frame::done(frame_id, &conversation_id, read_mark),
                Err(failure) => frame::nack(frame_id, failure),
            };
            Reply::Item { bytes, _permit: permit }
        }));
    }

    /// Takes all that wait, and returns their refusals.
    pub(super) fn refuse(&mut self, failure: &Failure) -> Vec<Reply> {
        let refuse = |Waiting { frame_id, permit, .. }| Reply::Item {
            bytes: frame::nack(frame_id, failure.clone()),
            _permit: permit,
        };
        self.waiting.drain(..).map(refuse).collect()
    }
}
