//! Traces over OTLP, when a collector is configured: one trace covers the caller, both services and the SQL statements.
//! Without a collector the cost is one check of a flag.
//!
//! Contexts are W3C `traceparent` headers. Work that several calls share, such as one batch of writes, is a span of the
//! first of their traces and is linked to the others.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use http::HeaderMap;
use opentelemetry::{
    KeyValue,
    propagation::{Extractor, Injector, TextMapPropagator},
    trace::{SpanContext, Status, TraceContextExt, TracerProvider},
};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{Sampler, SdkTracerProvider},
};
use tonic::{
    Code,
    metadata::{MetadataKey, MetadataMap},
};
use tracing::{Level, Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{Layer, filter::Targets, registry::LookupSpan};

use crate::lifecycle::BoxError;

/// The timeout of one export to the collector.
pub(super) const EXPORT_LIMIT: Duration = Duration::from_secs(5);

/// The maximum number of spans that one span is linked to.
const MAX_LINKS: usize = 32;

static IS_ON: AtomicBool = AtomicBool::new(false);

/// True if spans are exported.
pub fn is_on() -> bool {
    IS_ON.load(Ordering::Relaxed)
}

/// Returns the span of the current call, to pass it to the task that does the work; no span while traces are off.
pub fn current() -> Span {
    if is_on() { Span::current() } else { Span::none() }
}

/// Returns the span of work that is done for several calls at once: a child of the first of their spans, linked to the others.
/// `make` is passed the parent. No span while traces are off.
pub fn of_all<'s>(spans: impl IntoIterator<Item = &'s Span>, make: impl FnOnce(&Span) -> Span) -> Span {
    if !is_on() {
        return Span::none();
    }
    let mut spans = spans.into_iter().filter(|span| !span.is_none());
    let Some(parent) = spans.next() else { return make(&Span::none()) };
    let span = make(parent);
    for other in spans.take(MAX_LINKS) {
        span.add_link(context_of(other));
    }
    span
}

/// Adds the context of the current span to a call to another service.
pub fn inject(metadata: &mut MetadataMap) {
    if is_on() {
        TraceContextPropagator::new().inject_context(&Span::current().context(), &mut Metadata(metadata));
    }
}

/// Makes a span a child of the span in the caller's headers, and returns the id of its trace, if there is one, for the log.
/// The span must not have been entered yet.
pub(crate) fn adopt(span: &Span, headers: &HeaderMap) -> Option<String> {
    let given = TraceContextPropagator::new().extract(&Headers(headers));
    let context = if is_on() {
        // Without a subscriber for it, as in tests of a bare server, there is nothing to adopt.
        let _ = span.set_parent(given);
        context_of(span)
    } else {
        given.span().span_context().clone()
    };
    context.is_valid().then(|| context.trace_id().to_string())
}

/// Records in the trace how a call ended.
pub(crate) fn end(span: &Span, code: Code, is_our_fault: bool) {
    if !is_on() {
        return;
    }
    span.set_attribute("rpc.grpc.status_code", code as i64);
    if is_our_fault {
        span.set_status(Status::error(code.description()));
    }
}

fn context_of(span: &Span) -> SpanContext {
    span.context().span().span_context().clone()
}

/// Builds the exporter to a collector. Sends nothing yet; while the collector is unreachable, only traces are lost.
pub(super) fn provider(process: &'static str, endpoint: &str, ratio: f64) -> Result<SdkTracerProvider, BoxError> {
    let exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint).with_timeout(EXPORT_LIMIT).build()?;
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let instance = KeyValue::new("service.instance.id", format!("{:016x}", fastrand::u64(..)));
    let resource = Resource::builder().with_service_name(process).with_attributes([version, instance]).build();
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(ratio))))
        .with_resource(resource)
        .build())
}

/// Returns the layer that exports Parlance's own spans, at every log level.
pub(super) fn layer<S>(provider: &SdkTracerProvider) -> impl Layer<S> + use<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    IS_ON.store(true, Ordering::Relaxed);
    let exported = ["service_kit", "user_service", "message_service"].map(|name| (name, Level::INFO));
    tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("parlance"))
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_filter(Targets::new().with_targets(exported))
}

struct Headers<'h>(&'h HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

struct Metadata<'m>(&'m mut MetadataMap);

impl Injector for Metadata<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(key), Ok(value)) = (MetadataKey::from_bytes(key.as_bytes()), value.parse()) {
            self.0.insert(key, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_callers_trace_is_known_to_the_log_without_a_collector() {
        let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let adopted = |value: &str| {
            let headers =
                HeaderMap::from_iter([(http::HeaderName::from_static("traceparent"), value.parse().unwrap())]);
            adopt(&Span::none(), &headers)
        };
        assert_eq!(adopted(traceparent).as_deref(), Some("0af7651916cd43dd8448eb211c80319c"));
        for nonsense in ["", "00-0-0-01", "zz-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"] {
            assert_eq!(adopted(nonsense), None, "{nonsense}");
        }
    }
}
