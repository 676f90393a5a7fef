//! Hints between replicas. A bus may lose any of them: the record is the outbox, which every replica polls by itself
//! (`log/replicas.rs`).
//!
//! Writers and RPCs hand hints to the [`Exchange`], which never blocks. [`run`] sends them over a transport, PostgreSQL
//! (`postgres.rs`) or NATS (`nats.rs`), and applies those of other replicas to the live logs, which it knows only as a
//! [`Sink`]. What is sent is sealed (`seal.rs`): others on the same server can neither read nor write it.

mod exchange;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod hint;
mod metrics;
pub(crate) mod nats;
pub(crate) mod postgres;
pub(crate) mod run;
mod seal;
mod wire;

use std::{fmt::Display, str::FromStr};

pub(crate) use self::{exchange::Exchange, hint::Sink, seal::Seal};

/// The transport of hints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// LISTEN/NOTIFY of the service's own database.
    Postgres,
    /// NATS servers.
    Nats(nats::Servers),
}

/// The error for a text that names no bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotABus;

impl Display for NotABus {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("it must be postgres, or the address of a NATS server such as nats://host:4222")
    }
}

impl FromStr for Address {
    type Err = NotABus;

    fn from_str(text: &str) -> Result<Self, NotABus> {
        if text == "postgres" { Ok(Self::Postgres) } else { text.parse().map(Self::Nats).map_err(|()| NotABus) }
    }
}
