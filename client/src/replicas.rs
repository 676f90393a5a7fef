//! Connections to the replicas of message-service.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tonic::transport::{Channel, Endpoint};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// An address that is not a valid URI, or an empty list of addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid address {0:?}: expected http://host:port, at least one")]
pub struct InvalidAddress(String);

/// One lazy connection per replica, and the replica in use.
#[derive(Debug, Clone)]
pub(crate) struct Replicas {
    channels: Arc<[Channel]>,
    current: Arc<AtomicUsize>,
}

impl Replicas {
    pub(crate) fn new<A: AsRef<str>>(addresses: impl IntoIterator<Item = A>) -> Result<Self, InvalidAddress> {
        let channels =
            addresses.into_iter().map(|address| channel(address.as_ref())).collect::<Result<Arc<[_]>, _>>()?;
        if channels.is_empty() {
            return Err(InvalidAddress(String::new()));
        }
        Ok(Self { channels, current: Arc::default() })
    }

    /// Returns the same connections, with another replica as the first to use.
    pub(crate) fn starting_at(self, index: usize) -> Self {
        Self { current: Arc::new(AtomicUsize::new(index % self.channels.len())), ..self }
    }

    /// Returns the index of the replica in use, and its connection.
    pub(crate) fn current(&self) -> (usize, Channel) {
        let index = self.current.load(Ordering::Relaxed) % self.channels.len();
        (index, self.channels[index].clone())
    }

    /// Switches from a replica that failed to the next one, unless another session already has.
    pub(crate) fn report_failure(&self, index: usize) {
        let next = (index + 1) % self.channels.len();
        let _ = self.current.compare_exchange(index, next, Ordering::Relaxed, Ordering::Relaxed);
    }
}

fn channel(address: &str) -> Result<Channel, InvalidAddress> {
    let endpoint = Endpoint::from_shared(address.to_owned()).map_err(|_| InvalidAddress(address.to_owned()))?;
    let endpoint = endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true);
    Ok(endpoint.connect_lazy())
}
