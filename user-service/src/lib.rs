//! user-service: accounts, as `parlance.user.v1.UserService` and as the unpackaged `UserService` that Parlance began with.
//!
//! The rooms, from the inside out: `domain` (values, rules, refusals; no I/O), `storage` (the only one that says `sqlx`),
//! `grpc` (the only one that knows wire types; a file per RPC), `app` (all wiring), `config` (the only one that reads the
//! environment), `command` (the command line). What message-service has in common with this is in `service-kit`.

mod app;
mod command;
mod config;
mod domain;
mod grpc;
mod storage;

pub use app::{App, BuildError, MigrateError, RunError, migrate};
pub use command::Process;
pub use config::{Args, Config};
