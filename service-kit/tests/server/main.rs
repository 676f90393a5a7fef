//! The server on real sockets: what it does for good callers, and what bad ones cannot do to it.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "what a test starts ends with its runtime")]

mod calls;
mod certificates;
mod life;
mod log;
mod overload;
mod raw;
mod silence;
mod subject;
mod support;
mod tls;
mod tls_reload;
mod web;
