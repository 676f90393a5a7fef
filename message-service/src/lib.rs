//! message-service: conversations, their members and messages, as one dense log per conversation, over
//! `parlance.message.v1`.
//!
//! Modules, from the inside out:
//! - `domain`: values, rules and refusals; no I/O.
//! - `storage`: the database; no other module names `sqlx`.
//! - `bus`: hints between replicas.
//! - `directory`: the cached client of user-service.
//! - `actor`: the check that a caller may act for a user.
//! - `log`: the writers and the live logs.
//! - `grpc`: the API, a file per RPC; no other module names wire types of `parlance.message.v1`.
//! - `tasks`: background jobs.
//! - `verify`: the check of the stored data.
//! - `app`, `command`, `config`: wiring, command line, settings.
//!
//! Code that user-service shares is in `service-kit`.

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

/// The entry points of the fuzz targets.
#[cfg(feature = "fuzzing")]
pub mod fuzzing {
    pub use crate::{
        bus::fuzzing::{hint, sealed_hint},
        grpc::fuzzing::{frames, request},
    };
}

pub use app::{App, MessageService, migrate};
pub use bus::{Address as BusAddress, NotABus, nats::Servers as NatsServers};
pub use command::{Process, VerifyArgs};
pub use config::{Args, Config, Tuning, TuningArgs};
pub use directory::{Address, NotAnAddress, Settings as DirectorySettings};
