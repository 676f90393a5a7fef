//! message-service: conversations, their members and messages, as one dense log for each conversation, over
//! `parlance.message.v1`.
//!
//! The rooms, from the inside out: `domain` (values, rules, refusals; no I/O), `storage` (the only one that says `sqlx`),
//! `log` (writers and live logs), `bus` (what replicas tell each other), `directory` (its question to user-service), `grpc` (the only one that knows wire types;
//! a file per RPC), `tasks` (jobs in the background), `verify` (the check of what is stored), `app` (all wiring), `config` (the only one that reads the environment), `command` (the command line).
//! What user-service has in common with this is in `service-kit`.

mod actor;
mod app;
mod bus;
mod command;
mod config;
mod directory;
mod domain;
mod grpc;
mod log;
mod metrics;
mod planted;
mod storage;
mod tasks;
mod verify;

pub use app::{App, MessageService, migrate};
pub use bus::{Address as BusAddress, NotABus, nats::Servers as NatsServers};
pub use command::{Process, VerifyArgs};
pub use config::{Args, Config, Tuning, TuningArgs};
pub use directory::{Address, NotAnAddress, Settings as DirectorySettings};
