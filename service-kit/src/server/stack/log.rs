//! The span of a call, its metrics, and the one log line that a failed call gets.
//!
//! The line has the code, the reason, the duration and the cause, never a message or its contents. Faults of the server are
//! errors, failures that a retry may cure warnings, faults of the caller information, as are failures that belong to each
//! start and end of a process; a cancelled call is for debugging only. All but errors are limited in number.

use std::{error::Error, sync::Arc, time::Instant};

use http::HeaderMap;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use tracing::{Level, Span, field::Empty};

use super::request_id::RequestId;
use crate::{
    causes::causes,
    failure::{NotReady, Reason},
    reason,
    server::{
        line_limit::LineLimit,
        methods::Methods,
        metrics::{MethodMetrics, code_name},
    },
    telemetry::trace,
};

/// One running call. Dropped without an end, its caller has cancelled it.
#[derive(Debug)]
pub(super) struct CallLog {
    span: Span,
    metrics: Arc<MethodMetrics>,
    lines: Arc<LineLimit>,
    started: Instant,
    ended: bool,
}

impl CallLog {
    /// Opens the span, as a part of the caller's trace if the headers name one. An unknown path is left out: it is text of
    /// the caller.
    pub(super) fn begin(methods: &Methods, path: &str, request_id: &RequestId, headers: &HeaderMap) -> Self {
        let method = methods.find(path);
        let service = method.map_or("unknown", |method| &method.service);
        let name = method.map_or("unknown", |method| &method.name);
        let request_id = request_id.as_str();
        let span = tracing::info_span!(
            "call",
            rpc.service = service,
            rpc.method = name,
            request_id,
            trace_id = Empty,
            otel.name = Empty,
            otel.kind = Empty,
        );
        if trace::is_on() {
            span.record("otel.name", format_args!("{service}/{name}")).record("otel.kind", "server");
        }
        if let Some(trace_id) = trace::adopt(&span, headers) {
            span.record("trace_id", trace_id);
        }
        let metrics = methods.metrics(method);
        metrics.begin();
        Self { span, metrics, lines: methods.lines.clone(), started: Instant::now(), ended: false }
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
            let duration_ms = self.end(Code::Ok);
            self.within(|| tracing::debug!(rpc.grpc.status_code = "OK", duration_ms, "call ended"));
        }
    }

    /// Writes the line. `noted` is the cause if the status cannot carry it.
    pub(super) fn failed(&mut self, status: &Status, noted: Option<String>) {
        if !std::mem::replace(&mut self.ended, true) {
            let cause = noted.or_else(|| status.source().map(causes));
            let reason = status.get_details_error_info().map(|info| info.reason);
            let duration_ms = self.end(status.code());
            let level = if is_expected(status, reason.as_deref()) { Level::INFO } else { level(status.code()) };
            if self.may_write(level) {
                self.within(|| write(level, status.code(), reason.as_deref(), duration_ms, cause.as_deref()));
            }
        }
    }

    /// Returns false for a line that must be left out: clients decide how many calls fail. Errors are faults of the server, and
    /// are always written.
    fn may_write(&self, level: Level) -> bool {
        if level == Level::ERROR {
            return true;
        }
        let Some(left_out) = self.lines.count(Instant::now()) else { return false };
        if left_out > 0 {
            tracing::warn!(left_out, "calls failed without a line: there were too many in a second");
        }
        true
    }

    /// Counts the end and returns the duration in milliseconds.
    fn end(&self, code: Code) -> f64 {
        let duration = self.started.elapsed();
        self.metrics.end(code, duration);
        trace::end(&self.span, code, is_our_fault(code));
        duration.as_secs_f64() * 1e3
    }
}

impl Drop for CallLog {
    fn drop(&mut self) {
        if !self.ended {
            let duration_ms = self.end(Code::Cancelled);
            self.within(|| {
                tracing::debug!(rpc.grpc.status_code = "CANCELLED", duration_ms, "call given up by its caller");
            });
        }
    }
}

/// True for a failure that belongs to each start and each end of a process.
fn is_expected(status: &Status, reason: Option<&str>) -> bool {
    let is_starting = status.source().is_some_and(<dyn Error>::is::<NotReady>);
    is_starting || reason == Some(reason::name(Reason::Draining))
}

fn level(code: Code) -> Level {
    match code {
        _ if is_our_fault(code) => Level::ERROR,
        Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted => Level::WARN,
        Code::Ok | Code::Cancelled => Level::DEBUG,
        _ => Level::INFO,
    }
}

fn write(level: Level, code: Code, reason: Option<&str>, duration_ms: f64, cause: Option<&str>) {
    // The level of an event must be a constant.
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(rpc.grpc.status_code = code_name(code), reason, duration_ms, cause, "call failed")
        };
    }
    match level {
        Level::ERROR => line!(error),
        Level::WARN => line!(warn),
        Level::INFO => line!(info),
        _ => line!(debug),
    }
}

fn is_our_fault(code: Code) -> bool {
    matches!(code, Code::Internal | Code::Unknown | Code::DataLoss)
}
