//! user-service: accounts, as `parlance.user.v1.UserService` and as the unpackaged `UserService` that Parlance began with.
//!
//! The modules, from the inside out: `domain` (values, rules, refusals; no I/O), `storage` (the only one that uses `sqlx`),
//! `changes` (the feed of changes for watchers), `grpc` (the only one that knows wire types; a file per RPC), `tasks`
//! (background tasks), `verify` (checks what is stored), `app` (all wiring), `config` (the only one that reads the
//! environment), `command` (the command line). Code shared with message-service is in `service-kit`.

mod app;
mod changes;
mod command;
mod config;
mod domain;
mod grpc;
mod metrics;
mod storage;
mod tasks;
mod verify;

pub use app::{App, UserService, migrate};
pub use command::{Process, VerifyArgs};
pub use config::{Args, Config};
pub use service_kit::{
    database::MigrateError,
    service::{BuildError, RunError},
};
