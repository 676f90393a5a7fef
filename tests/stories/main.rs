//! Stories over the whole product: real services on real sockets, a real PostgreSQL, a database for each test.
//!
//! `make test` starts the PostgreSQL and sets `TEST_DATABASE_URL`. One binary; a folder for each part of the contract,
//! a file for each RPC or subject.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "a test spawns what the services may not")]
#![expect(unreachable_pub, reason = "a binary has no other crate to reach")]

mod auth;
mod chat;
mod client;
mod contract;
mod conversations;
mod faults;
mod kubernetes;
mod live;
mod messages;
mod model;
mod operations;
mod streams;
mod structure;
mod subscribe;
mod support;
mod telemetry;
mod users;
mod web_client;
