//! The entry point of the crate.

use crate::{
    replicas::{InvalidAddress, Replicas},
    session::SessionBuilder,
};

/// Connections to one or more replicas of message-service. Cheap to clone; clones share the connections, which are
/// opened on first use.
#[derive(Debug, Clone)]
pub struct Client {
    replicas: Replicas,
}

impl Client {
    /// Creates a client of the replicas at these addresses, such as `http://127.0.0.1:50052`. The first one is used until
    /// it fails. Must be called inside a Tokio runtime.
    ///
    /// # Errors
    /// An address is invalid, or the list is empty.
    pub fn new<A: AsRef<str>>(addresses: impl IntoIterator<Item = A>) -> Result<Self, InvalidAddress> {
        Ok(Self { replicas: Replicas::new(addresses)? })
    }

    /// Starts with another replica than the first, to spread many clients over the replicas.
    #[must_use]
    pub fn starting_at(self, index: usize) -> Self {
        Self { replicas: self.replicas.starting_at(index) }
    }

    /// Returns a builder for a session of this user.
    pub fn session(&self, actor_id: impl Into<String>) -> SessionBuilder {
        SessionBuilder::new(self.replicas.clone(), actor_id.into())
    }
}
