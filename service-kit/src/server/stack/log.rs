//! The span of a call and the one line that is written when it fails.
//!
//! The line has the code, the reason, how long it took and what caused it, never a message or its contents. Our own
//! faults are errors, what a retry may cure are warnings, the caller's faults are information, a caller that hung up is
//! for debugging only.

use std::{error::Error, time::Instant};

use tonic::{Code, Status};
use tonic_types::StatusExt;
use tracing::Span;

use super::{cause, request_id::RequestId};
use crate::server::methods::Method;

/// One running call. Dropped without an end, it was given up by its caller.
#[derive(Debug)]
pub(super) struct CallLog {
    span: Span,
    started: Instant,
    ended: bool,
}

impl CallLog {
    /// Opens the span. An unknown path is not repeated: it is the caller's text.
    pub(super) fn begin(method: Option<&Method>, request_id: &RequestId) -> Self {
        let service = method.map_or("unknown", |method| &method.service);
        let name = method.map_or("unknown", |method| &method.name);
        let request_id = request_id.as_str();
        let span = tracing::info_span!("call", rpc.service = service, rpc.method = name, request_id);
        Self { span, started: Instant::now(), ended: false }
    }

    pub(super) fn span(&self) -> Span {
        self.span.clone()
    }

    /// Runs a part of the call inside its span.
    pub(super) fn within<T>(&self, part: impl FnOnce() -> T) -> T {
        self.span.in_scope(part)
    }

    pub(super) fn succeeded(&mut self) {
        if !std::mem::replace(&mut self.ended, true) {
            let duration_ms = self.duration_ms();
            self.within(|| tracing::debug!(rpc.grpc.status_code = "OK", duration_ms, "call ended"));
        }
    }

    /// Writes the line. `noted` is the cause where the status cannot carry it.
    pub(super) fn failed(&mut self, status: &Status, noted: Option<String>) {
        if !std::mem::replace(&mut self.ended, true) {
            let cause = noted.or_else(|| status.source().map(cause::text));
            let reason = status.get_details_error_info().map(|info| info.reason);
            let duration_ms = self.duration_ms();
            self.within(|| write(status.code(), reason.as_deref(), duration_ms, cause.as_deref()));
        }
    }

    fn duration_ms(&self) -> f64 {
        self.started.elapsed().as_secs_f64() * 1e3
    }
}

impl Drop for CallLog {
    fn drop(&mut self) {
        if !self.ended {
            let duration_ms = self.duration_ms();
            self.within(|| {
                tracing::debug!(rpc.grpc.status_code = "CANCELLED", duration_ms, "call given up by its caller");
            });
        }
    }
}

fn write(code: Code, reason: Option<&str>, duration_ms: f64, cause: Option<&str>) {
    let name = name(code);
    match code {
        Code::Internal | Code::Unknown | Code::DataLoss => {
            tracing::error!(rpc.grpc.status_code = name, reason, duration_ms, cause, "call failed");
        }
        Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted => {
            tracing::warn!(rpc.grpc.status_code = name, reason, duration_ms, cause, "call failed");
        }
        Code::Ok | Code::Cancelled => {
            tracing::debug!(rpc.grpc.status_code = name, reason, duration_ms, cause, "call failed");
        }
        _ => tracing::info!(rpc.grpc.status_code = name, reason, duration_ms, cause, "call failed"),
    }
}

/// The code as the gRPC specification writes it.
fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
