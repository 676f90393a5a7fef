//! Where the services are, and the connections to them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tonic::transport::{Channel, Endpoint};

use crate::session::SessionBuilder;

const CONNECT_LIMIT: Duration = Duration::from_secs(5);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_LIMIT: Duration = Duration::from_secs(10);

/// Not the address of a service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no address: it must look like http://host:port, and there must be one")]
pub struct InvalidAddress(String);

/// Connections to one or more replicas of message-service. Cheap to clone; clones share the connections, which are made
/// when they are needed.
#[derive(Debug, Clone)]
pub struct Client {
    channels: Arc<[Channel]>,
    current: Arc<AtomicUsize>,
}

impl Client {
    /// Of replicas at these addresses, such as `http://127.0.0.1:50052`. The first is used until it fails.
    ///
    /// # Errors
    /// An address is none, or there is none. Call it inside a Tokio runtime.
    pub fn new<A: AsRef<str>>(addresses: impl IntoIterator<Item = A>) -> Result<Self, InvalidAddress> {
        let channel = |address: A| {
            let address = address.as_ref();
            let endpoint = Endpoint::from_shared(address.to_owned()).map_err(|_| InvalidAddress(address.to_owned()))?;
            let endpoint = endpoint
                .connect_timeout(CONNECT_LIMIT)
                .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
                .keep_alive_timeout(KEEPALIVE_LIMIT)
                .keep_alive_while_idle(true)
                .tcp_nodelay(true);
            Ok(endpoint.connect_lazy())
        };
        let channels = addresses.into_iter().map(channel).collect::<Result<Arc<[_]>, _>>()?;
        if channels.is_empty() {
            return Err(InvalidAddress(String::new()));
        }
        Ok(Self { channels, current: Arc::default() })
    }

    /// Prefers another replica at first: for many clients that are to be spread over them.
    #[must_use]
    pub fn starting_at(self, index: usize) -> Self {
        Self { current: Arc::new(AtomicUsize::new(index % self.channels.len())), ..self }
    }

    /// Begins to describe a session of this user.
    pub fn session(&self, actor_id: impl Into<String>) -> SessionBuilder {
        SessionBuilder::new(self.clone(), actor_id.into())
    }

    /// The number of the replica in use, and its connection.
    pub(crate) fn current(&self) -> (usize, Channel) {
        let index = self.current.load(Ordering::Relaxed) % self.channels.len();
        (index, self.channels[index].clone())
    }

    /// That replica has failed: the next one is used, unless somebody has seen to that.
    pub(crate) fn failed(&self, index: usize) {
        let next = (index + 1) % self.channels.len();
        let _ = self.current.compare_exchange(index, next, Ordering::Relaxed, Ordering::Relaxed);
    }
}
