//! The targets.

use crate::seeds;

/// A function that decodes an input and panics if a law is broken, and inputs to begin with.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&[u8]),
    pub(crate) seeds: fn() -> Vec<Vec<u8>>,
}

/// All targets, in the order in which they run.
pub(crate) const TARGETS: [Target; 9] = [
    Target { name: "message-requests", run: message_service::fuzzing::request, seeds: seeds::message_requests },
    Target { name: "user-requests", run: user_service::fuzzing::request, seeds: seeds::user_requests },
    Target { name: "chat-frames", run: message_service::fuzzing::frames, seeds: seeds::chat_frames },
    Target { name: "client-answers", run: parlance_client::fuzzing::answers, seeds: seeds::answers },
    Target { name: "hints", run: message_service::fuzzing::hint, seeds: seeds::hints },
    Target { name: "sealed-hints", run: message_service::fuzzing::sealed_hint, seeds: seeds::hints },
    Target { name: "page-tokens", run: service_kit::fuzzing::page_token, seeds: seeds::texts },
    Target { name: "texts", run: service_kit::fuzzing::texts, seeds: seeds::texts },
    Target { name: "database-url", run: service_kit::fuzzing::database_url, seeds: seeds::database_urls },
];
