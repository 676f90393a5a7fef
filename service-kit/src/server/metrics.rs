//! Metrics of each method: calls started, calls ended by code, and their duration. Names and labels are those
//! that dashboards for gRPC servers expect.

use std::{sync::OnceLock, time::Duration};

use tonic::Code;

use crate::telemetry::metrics::{Counter, Histogram, Label, counter, histogram};

/// The counters of one method, resolved once since every call uses them.
#[derive(Debug)]
pub(crate) struct MethodMetrics {
    labels: Vec<Label>,
    started: Counter,
    seconds: Histogram,
    /// By the number of the code, created at its first use.
    handled: [OnceLock<Counter>; 17],
}

impl MethodMetrics {
    pub(crate) fn new(shape: &'static str, service: &str, name: &str) -> Self {
        let labels = vec![
            Label::from_static_parts("grpc_type", shape),
            Label::new("grpc_service", service.to_owned()),
            Label::new("grpc_method", name.to_owned()),
        ];
        let started = counter!("grpc_server_started_total", labels.clone());
        let seconds = histogram!("grpc_server_handling_seconds", labels.clone());
        let metrics = Self { labels, started, seconds, handled: Default::default() };
        // Rates are divided by this one, so it exists from the beginning.
        metrics.handled(Code::Ok);
        metrics
    }

    /// Counts a call that starts.
    pub(crate) fn begin(&self) {
        self.started.increment(1);
    }

    /// Counts a call that has ended.
    pub(crate) fn end(&self, code: Code, after: Duration) {
        self.handled(code).increment(1);
        self.seconds.record(after.as_secs_f64());
    }

    fn handled(&self, code: Code) -> &Counter {
        self.handled[code as usize].get_or_init(|| {
            let mut labels = self.labels.clone();
            labels.push(Label::from_static_parts("grpc_code", code_name(code)));
            counter!("grpc_server_handled_total", labels)
        })
    }
}

/// Returns the code as the gRPC specification writes it.
pub(crate) fn code_name(code: Code) -> &'static str {
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
