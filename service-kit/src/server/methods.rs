//! The methods of the descriptor sets, and which of them stream.
//!
//! Deadlines and the concurrency limit treat unary calls differently, and a log line or a metric names a method only
//! when it is known: a path is text of the caller.

use std::{collections::HashMap, sync::Arc};

use prost::{DecodeError, Message};
use prost_types::FileDescriptorSet;

use super::{line_limit::LineLimit, metrics::MethodMetrics};
use crate::auth::Rule;

/// The shape of a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One request, one response.
    Unary,
    /// A stream on at least one side.
    Streaming,
}

/// One method that is served.
#[derive(Debug)]
pub(crate) struct Method {
    pub(crate) service: String,
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// `None` if its service gave it none: then nobody may call it.
    pub(crate) rule: Option<Rule>,
    pub(crate) metrics: Arc<MethodMetrics>,
}

/// All methods by their path, such as `/grpc.health.v1.Health/Check`.
#[derive(Debug)]
pub(crate) struct Methods {
    by_path: HashMap<String, Method>,
    others: Arc<MethodMetrics>,
    /// The limit on lines about failed calls.
    pub(super) lines: Arc<LineLimit>,
}

impl Methods {
    /// Reads the methods of these sets, and of health and reflection, which every server has and everybody may call.
    pub(crate) fn read(descriptors: &[&[u8]], rules: &[(&str, Rule)]) -> Result<Self, DecodeError> {
        let rules: HashMap<&str, Rule> = rules.iter().copied().collect();
        let built_in = [
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ];
        let mut methods = HashMap::new();
        for encoded in descriptors.iter().copied().chain(built_in) {
            for file in FileDescriptorSet::decode(encoded)?.file {
                for service in &file.service {
                    let service_name = match file.package() {
                        "" => service.name().to_owned(),
                        package => format!("{package}.{}", service.name()),
                    };
                    for method in &service.method {
                        let (shape, kind) = match (method.client_streaming(), method.server_streaming()) {
                            (false, false) => ("unary", Kind::Unary),
                            (true, false) => ("client_stream", Kind::Streaming),
                            (false, true) => ("server_stream", Kind::Streaming),
                            (true, true) => ("bidi_stream", Kind::Streaming),
                        };
                        let path = format!("/{service_name}/{}", method.name());
                        let (service, name) = (service_name.clone(), method.name().to_owned());
                        let metrics = Arc::new(MethodMetrics::new(shape, &service, &name));
                        let built_in = service.starts_with("grpc.").then_some(Rule::Open);
                        let rule = rules.get(&*path).copied().or(built_in);
                        methods.insert(path, Method { service, name, kind, rule, metrics });
                    }
                }
            }
        }
        Ok(Self {
            by_path: methods,
            others: Arc::new(MethodMetrics::new("unary", "unknown", "unknown")),
            lines: Arc::default(),
        })
    }

    /// Returns the method of this path, if it is known.
    pub(crate) fn find(&self, path: &str) -> Option<&Method> {
        self.by_path.get(path)
    }

    /// Returns the counters of this method, or those that all unknown methods share.
    pub(crate) fn metrics(&self, method: Option<&Method>) -> Arc<MethodMetrics> {
        method.map_or(&self.others, |method| &method.metrics).clone()
    }
}
