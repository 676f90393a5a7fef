//! Plumbing that both services need and none of their nouns: configuration, telemetry, life cycle, the server and its
//! tower stack, the database connection, migrations, typed failures, page tokens,
//! the report of a check.
//!
//! Nothing here knows a user, a conversation or the wire contract; what differs between the services is a parameter.

pub mod backoff;
pub mod bounds;
pub mod caller;
pub mod command;
pub mod config;
pub mod database;
pub mod failure;
pub mod fields;
pub mod healthcheck;
pub mod lifecycle;
pub mod page_token;
mod parts;
pub mod server;
pub mod telemetry;
pub mod verify;
