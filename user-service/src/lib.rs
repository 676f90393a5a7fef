//! user-service: accounts, as `parlance.user.v1.UserService` and as the unpackaged `UserService` that Parlance began with.
//!
//! Modules, from the inside out:
//! - `domain`: values, rules and refusals; no I/O.
//! - `authorised`: the check that a caller may make an RPC.
//! - `storage`: the database; no other module names `sqlx`.
//! - `changes`: the feed of changes for watchers.
//! - `grpc`: the API, a file per RPC; no other module names wire types.
//! - `tasks`: background jobs.
//! - `verify`: the check of the stored data.
//! - `app`, `command`, `config`: wiring, command line, settings.
//!
//! Code that message-service shares is in `service-kit`.

mod app;
mod authorised;
mod changes;
mod command;
mod config;
mod domain;
mod grpc;
mod metrics;
mod storage;
mod tasks;
mod verify;

/// The entry points of the fuzz targets.
#[cfg(feature = "fuzzing")]
pub mod fuzzing {
    pub use crate::grpc::fuzzing::request;
}

pub use app::{App, UserService, migrate};
pub use command::{Process, VerifyArgs};
pub use config::{Args, Config};
