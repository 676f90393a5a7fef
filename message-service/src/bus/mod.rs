//! Between replicas: what one of them tells the others. A bus carries hints and may lose any of them; the record is the outbox,
//! which every replica reads by itself (`log/replicas.rs`).
//!
//! Writers and RPCs hand over to the [`Exchange`], which never waits. A [`Bus`] takes from it what waits and brings what is
//! heard (`tasks/bus.rs`): PostgreSQL by default (`storage/bus.rs`), or NATS (`nats.rs`).

mod exchange;
pub(crate) mod nats;
pub(crate) mod postgres;
pub(crate) mod run;
mod wire;

use std::{fmt::Display, future::Future, str::FromStr};

use service_kit::lifecycle::BoxError;

use crate::domain::{encoded::EncodedEntry, ephemeral::Ephemeral, ids::ConversationId};

pub(crate) use self::exchange::Exchange;

/// What one replica tells the others at a time. All of it may be lost, none of it need be true.
#[derive(Debug, Default)]
pub(crate) struct Hint {
    /// Something was committed that is not among the entries: look.
    pub(crate) look: bool,
    /// Newest entries of conversations, encoded.
    pub(crate) entries: Vec<Entries>,
    pub(crate) ephemerals: Vec<Ephemeral>,
}

/// Entries of one conversation, at least one, in order and without a hole.
#[derive(Debug, Clone)]
pub(crate) struct Entries {
    pub(crate) conversation_id: ConversationId,
    pub(crate) frames: Vec<EncodedEntry>,
}

/// Carries hints between replicas. Both directions are used at the same time, each by one task; after an error the next call
/// begins anew.
pub(crate) trait Bus: Send + Sync + 'static {
    /// Tells the other replicas. May be dropped at any time, as may the hint.
    fn tell(&self, hint: Hint) -> impl Future<Output = Result<(), BoxError>> + Send;

    /// Waits for what another replica tells.
    fn hear(&self) -> impl Future<Output = Result<Hint, BoxError>> + Send;
}

/// Tells replicas apart: what is one's own is not heard.
pub(crate) type ReplicaId = u64;

/// Which bus there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// The database that is there anyway.
    Postgres,
    /// Servers of NATS.
    Nats(nats::Servers),
}

/// A text that names no bus.
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
