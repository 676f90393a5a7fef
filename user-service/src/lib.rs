//! user-service: accounts, as `parlance.user.v1.UserService` and as the unpackaged `UserService` that Parlance began with.
//!
//! The rooms, from the inside out: `domain` (values, rules, refusals; no I/O), `storage` (the only one that says `sqlx`),
//! `changes` (the feed of changes for those who watch), `grpc` (the only one that knows wire types; a file per RPC), `tasks`
//! (jobs in the background), `verify` (the check of what is stored), `app` (all wiring), `config` (the only one that reads the environment), `command` (the command
//! line). What message-service has in common with this is in `service-kit`.

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

pub use app::{App, BuildError, MigrateError, RunError, migrate};
pub use command::{Process, VerifyArgs};
pub use config::{Args, Config};
