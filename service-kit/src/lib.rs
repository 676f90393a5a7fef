//! Code that both services share: authentication, configuration, telemetry, life cycle, the server and its tower stack, the database
//! connection, migrations, the outbox, typed failures, fields of requests, names of hosts and origins, page tokens, the report
//! of a check.
//!
//! Nothing here knows a user or a conversation. Of the wire contract it knows only the error reasons and the descriptors; what
//! differs between the services is a parameter.

pub mod auth;
pub mod backoff;
pub mod bounded;
pub mod bounds;
pub mod causes;
pub mod command;
pub mod config;
pub mod database;
pub mod failure;
pub mod fields;
pub mod files;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod healthcheck;
pub mod lifecycle;
pub mod names;
pub mod page_token;
mod parts;
pub mod reason;
pub mod server;
pub mod service;
pub mod shared;
pub mod sync;
pub mod telemetry;
pub mod time_share;
pub mod tls;
pub mod token;
pub mod verify;
