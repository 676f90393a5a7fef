//! The replicas of user-service, and the choice of one for each call.
//!
//! A host name is resolved every few seconds, and each of its addresses gets its own channel, so that new replicas are
//! found and old ones forgotten; an address literal or `localhost` is one channel. Calls are distributed round-robin,
//! except that an unreachable replica is avoided for a moment while there are others. tonic's own balancing has no such
//! memory: it picks a dead address as often as any other.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use service_kit::{lifecycle::Lifecycle, sync::lock};
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;

use super::address::Address;

/// The time between two resolutions of the host name.
const RESOLVE_INTERVAL: Duration = Duration::from_secs(10);
/// The same while no address is known.
const RESOLVE_RETRY: Duration = Duration::from_secs(1);
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// The time for which an unreachable replica is avoided.
const AVOID_UNREACHABLE: Duration = Duration::from_secs(2);

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
/// Half of it is what unread small frames may add up to before the connection is given up.
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// One replica.
#[derive(Debug)]
pub(super) struct Replica {
    /// `None` where the connector resolves the address.
    socket: Option<SocketAddr>,
    channel: Channel,
    avoid_until: Mutex<Option<Instant>>,
}

impl Replica {
    /// Returns `None` for a socket that cannot be written as a URI, of which there is none.
    fn new(socket: Option<SocketAddr>, address: &Address) -> Option<Arc<Self>> {
        let endpoint = address
            .endpoint(socket)?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        let channel = match address.connector(socket) {
            Some(connector) => endpoint.connect_with_connector_lazy(connector),
            None => endpoint.connect_lazy(),
        };
        Some(Arc::new(Self { socket, channel, avoid_until: Mutex::default() }))
    }

    pub(super) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Records the result of a call: an unreachable replica is avoided for a moment.
    pub(super) fn record(&self, reachable: bool) {
        *lock(&self.avoid_until) = (!reachable).then(|| Instant::now() + AVOID_UNREACHABLE);
    }

    fn is_avoided(&self, now: Instant) -> bool {
        lock(&self.avoid_until).is_some_and(|until| now < until)
    }
}

/// All known replicas. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Replicas {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    list: RwLock<Vec<Arc<Replica>>>,
    next: AtomicUsize,
}

impl Replicas {
    /// Resolves the address until the lifecycle is closing. Each replica is connected to at its first call.
    pub(super) fn start(address: &Address, lifecycle: &Lifecycle) -> Self {
        let replicas = Self::default();
        if address.is_resolved() {
            replicas.replace(Replica::new(None, address).into_iter().collect());
            return replicas;
        }
        let (resolver, address, stages) = (replicas.clone(), address.clone(), lifecycle.clone());
        lifecycle.spawn("user-service addresses", async move {
            stages.closing().run_until_cancelled(resolver.resolve(address)).await;
        });
        replicas
    }

    /// Returns the next replica in turn that is not avoided; if all are, the next one.
    pub(super) fn pick(&self) -> Option<Arc<Replica>> {
        let now = Instant::now();
        let list = self.shared.list.read().unwrap_or_else(PoisonError::into_inner);
        let first = self.shared.next.fetch_add(1, Ordering::Relaxed) % list.len().max(1);
        let mut round = list.iter().cycle().skip(first).take(list.len());
        round.clone().find(|replica| !replica.is_avoided(now)).or_else(|| round.next()).cloned()
    }

    async fn resolve(self, address: Address) {
        let mut failing = false;
        loop {
            let resolved = timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host((&*address.host, address.port))).await;
            let problem = match resolved {
                Ok(Ok(found)) => {
                    self.update(&address, found.collect());
                    None
                }
                Ok(Err(cause)) => Some(cause.to_string()),
                Err(_) => Some(format!("no answer within {RESOLVE_TIMEOUT:?}")),
            };
            // The known addresses stay: an outage of the name server does not concern user-service.
            if let (Some(cause), false) = (&problem, failing) {
                tracing::warn!(cause, %address, "the host name of user-service cannot be resolved");
            }
            failing = problem.is_some();
            let is_empty = self.shared.list.read().unwrap_or_else(PoisonError::into_inner).is_empty();
            sleep(if is_empty { RESOLVE_RETRY } else { RESOLVE_INTERVAL }).await;
        }
    }

    /// Replaces the list, and keeps the channels of addresses that are still in it.
    fn update(&self, address: &Address, mut found: Vec<SocketAddr>) {
        found.sort_unstable();
        found.dedup();
        let known = self.shared.list.read().unwrap_or_else(PoisonError::into_inner).clone();
        if found.is_empty() || known.iter().filter_map(|replica| replica.socket).eq(found.iter().copied()) {
            return;
        }
        tracing::info!(%address, replicas = found.len(), "the addresses of user-service have changed");
        let replica_at = |socket: SocketAddr| {
            let kept = known.iter().find(|replica| replica.socket == Some(socket)).cloned();
            kept.or_else(|| Replica::new(Some(socket), address))
        };
        self.replace(found.into_iter().filter_map(replica_at).collect());
    }

    fn replace(&self, replicas: Vec<Arc<Replica>>) {
        *self.shared.list.write().unwrap_or_else(PoisonError::into_inner) = replicas;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn calls_are_distributed_and_avoid_unreachable_replicas() {
        let address: Address = "http://users:1".parse().unwrap();
        let replicas = Replicas::default();
        assert!(replicas.pick().is_none());
        let sockets: Vec<SocketAddr> =
            ["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"].map(|text| text.parse().unwrap()).into();
        replicas.update(&address, sockets.clone());
        let mut picked: Vec<_> = (0..3).map(|_| replicas.pick().unwrap()).collect();
        picked.sort_by_key(|replica| replica.socket);
        assert!(picked.iter().map(|replica| replica.socket.unwrap()).eq(sockets.iter().copied()));

        picked[0].record(false);
        assert!((0..9).all(|_| replicas.pick().unwrap().socket != picked[0].socket));
        picked[1].record(false);
        picked[2].record(false);
        // If all are unreachable, one is tried anyway.
        assert!(replicas.pick().is_some());

        // An address that stays keeps its channel and its state, one that is gone is forgotten.
        replicas.update(&address, sockets[..2].to_vec());
        assert!((0..9).all(|_| replicas.pick().unwrap().socket != picked[2].socket));
        assert!(Arc::ptr_eq(&picked[0], &replicas.shared.list.read().unwrap()[0]));
    }
}
