//! Which methods exist and which of them stream, as told by descriptor sets.
//!
//! Deadlines and the concurrency limit treat unary calls differently, and a log line or a metric names a method only
//! when it is one of ours: a path is the caller's text.

use std::collections::HashMap;

use prost::{DecodeError, Message};
use prost_types::FileDescriptorSet;

/// The shape of a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One request, one response.
    Unary,
    /// A stream on at least one side.
    Streaming,
}

/// One method that is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Method {
    pub(crate) service: String,
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

/// All methods by their path, such as `/grpc.health.v1.Health/Check`.
#[derive(Debug, Default)]
pub(crate) struct Methods(HashMap<String, Method>);

impl Methods {
    /// Reads the methods of these sets, and of health and reflection, which every server has.
    pub(crate) fn read(descriptors: &[&[u8]]) -> Result<Self, DecodeError> {
        let ours = [
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ];
        let mut methods = HashMap::new();
        for encoded in descriptors.iter().copied().chain(ours) {
            for file in FileDescriptorSet::decode(encoded)?.file {
                for service in &file.service {
                    let service_name = match file.package() {
                        "" => service.name().to_owned(),
                        package => format!("{package}.{}", service.name()),
                    };
                    for method in &service.method {
                        let streams = method.client_streaming() || method.server_streaming();
                        let kind = if streams { Kind::Streaming } else { Kind::Unary };
                        let path = format!("/{service_name}/{}", method.name());
                        let (service, name) = (service_name.clone(), method.name().to_owned());
                        methods.insert(path, Method { service, name, kind });
                    }
                }
            }
        }
        Ok(Self(methods))
    }

    /// The method of this path, if it is one of ours.
    pub(crate) fn find(&self, path: &str) -> Option<&Method> {
        self.0.get(path)
    }
}
