//! The replicas of user-service: where they are and which of them to ask.
//!
//! A host name is resolved every few seconds and each of its addresses gets a channel of its own, so that new replicas are
//! found and old ones forgotten; an address literal or `localhost` is one channel. Calls go round; a replica that could
//! not be reached rests for a moment while there are others. tonic's own balancing has no such memory: it chooses an
//! address that is dead as often as any other.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use service_kit::lifecycle::Lifecycle;
use tokio::time::{sleep, timeout};
use tonic::transport::{Channel, Endpoint, Uri};

/// From one look at the name to the next.
const RESOLVE_EVERY: Duration = Duration::from_secs(10);
/// The same while there is no address at all.
const RESOLVE_AGAIN: Duration = Duration::from_secs(1);
const RESOLVE_LIMIT: Duration = Duration::from_secs(5);

/// For how long others are preferred to a replica that could not be reached.
const REST: Duration = Duration::from_secs(2);

const CONNECT_LIMIT: Duration = Duration::from_secs(1);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_LIMIT: Duration = Duration::from_secs(10);
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
/// Half of it is what unread small frames may add up to before the connection is given up.
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// Where user-service is: `http://host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    uri: Uri,
    host: String,
    port: u16,
}

/// Why a text is no [`Address`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it must be http://host:port")]
pub struct NotAnAddress;

impl FromStr for Address {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        let uri: Uri = text.parse().map_err(|_| NotAnAddress)?;
        let bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
        let (Some("http"), Some(host), Some(port), true) = (uri.scheme_str(), uri.host(), uri.port_u16(), bare) else {
            return Err(NotAnAddress);
        };
        // An IPv6 literal stands in brackets in a URL and nowhere else.
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() || uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(NotAnAddress);
        }
        Ok(Self { uri, host, port })
    }
}

impl Address {
    /// The address of a service that listens on this socket, as in tests and where both services run in one process.
    pub fn of_socket(socket: SocketAddr) -> Self {
        let authority = socket.to_string();
        let (host, port) = (socket.ip().to_string(), socket.port());
        let uri = Uri::builder().scheme("http").authority(authority).path_and_query("/").build();
        Self { uri: uri.unwrap_or_default(), host, port }
    }

    /// Literals name one socket, and `localhost` is what the connector makes of it.
    fn is_resolved(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.uri)
    }
}

/// One replica.
#[derive(Debug)]
pub(super) struct Peer {
    /// `None` where the address was not ours to resolve.
    socket: Option<SocketAddr>,
    channel: Channel,
    rests_until: Mutex<Option<Instant>>,
}

impl Peer {
    fn new(socket: Option<SocketAddr>, endpoint: Endpoint) -> Arc<Self> {
        let channel = endpoint
            .connect_timeout(CONNECT_LIMIT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_LIMIT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .connect_lazy();
        Arc::new(Self { socket, channel, rests_until: Mutex::default() })
    }

    pub(super) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Notes whether the replica was heard of.
    pub(super) fn note(&self, heard: bool) {
        let rest = (!heard).then(|| Instant::now() + REST);
        *self.rests_until.lock().unwrap_or_else(PoisonError::into_inner) = rest;
    }

    fn rests(&self, now: Instant) -> bool {
        self.rests_until.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|until| now < until)
    }
}

/// All replicas known. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Peers {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    list: RwLock<Vec<Arc<Peer>>>,
    turn: AtomicUsize,
}

impl Peers {
    /// Finds the replicas, and goes on finding them until the lifecycle is closing. Connects to none before it is asked.
    pub(super) fn start(address: &Address, lifecycle: &Lifecycle) -> Self {
        let peers = Self::default();
        if address.is_resolved() {
            peers.replace(vec![Peer::new(None, Endpoint::from(address.uri.clone()))]);
            return peers;
        }
        let (follower, address, stages) = (peers.clone(), address.clone(), lifecycle.clone());
        lifecycle.spawn("user-service addresses", async move {
            stages.closing().run_until_cancelled(follower.follow(address)).await;
        });
        peers
    }

    /// The replica whose turn it is: the next one that does not rest, else the next one.
    pub(super) fn pick(&self) -> Option<Arc<Peer>> {
        let now = Instant::now();
        let list = self.shared.list.read().unwrap_or_else(PoisonError::into_inner);
        let first = self.shared.turn.fetch_add(1, Ordering::Relaxed) % list.len().max(1);
        let mut round = list.iter().cycle().skip(first).take(list.len());
        round.clone().find(|peer| !peer.rests(now)).or_else(|| round.next()).cloned()
    }

    async fn follow(self, address: Address) {
        let mut failing = false;
        loop {
            let resolved = timeout(RESOLVE_LIMIT, tokio::net::lookup_host((&*address.host, address.port))).await;
            let problem = match resolved {
                Ok(Ok(found)) => {
                    self.update(&address, found.collect());
                    None
                }
                Ok(Err(cause)) => Some(cause.to_string()),
                Err(_) => Some(format!("no answer within {RESOLVE_LIMIT:?}")),
            };
            // The addresses known stay: a name server that is away says nothing about user-service.
            if let (Some(cause), false) = (&problem, failing) {
                tracing::warn!(cause, %address, "the host name of user-service cannot be resolved");
            }
            failing = problem.is_some();
            let nobody = self.shared.list.read().unwrap_or_else(PoisonError::into_inner).is_empty();
            sleep(if nobody { RESOLVE_AGAIN } else { RESOLVE_EVERY }).await;
        }
    }

    /// Keeps the channels of addresses that are still there.
    fn update(&self, address: &Address, mut found: Vec<SocketAddr>) {
        found.sort_unstable();
        found.dedup();
        let known = self.shared.list.read().unwrap_or_else(PoisonError::into_inner).clone();
        if found.is_empty() || known.iter().filter_map(|peer| peer.socket).eq(found.iter().copied()) {
            return;
        }
        tracing::info!(%address, replicas = found.len(), "user-service has other addresses");
        let peer_at = |socket: SocketAddr| {
            let kept = known.iter().find(|peer| peer.socket == Some(socket)).cloned();
            let made = || {
                let endpoint = Endpoint::from_shared(format!("http://{socket}")).ok()?;
                // Calls still name the host that the operator gave.
                Some(Peer::new(Some(socket), endpoint.origin(address.uri.clone())))
            };
            kept.or_else(made)
        };
        self.replace(found.into_iter().filter_map(peer_at).collect());
    }

    fn replace(&self, peers: Vec<Arc<Peer>>) {
        *self.shared.list.write().unwrap_or_else(PoisonError::into_inner) = peers;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_scheme_a_host_and_a_port() {
        for (text, host, port) in [
            ("http://127.0.0.1:50051", "127.0.0.1", 50051),
            ("http://[::1]:1/", "::1", 1),
            ("http://users.chat.svc:50051", "users.chat.svc", 50051),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!((address.host.as_str(), address.port), (host, port));
        }
        for text in ["", "users:50051", "http://users", "https://users:1", "http://users:1/path", "http://a@b:1"] {
            assert!(text.parse::<Address>().is_err(), "{text:?}");
        }
    }

    #[tokio::test]
    async fn turns_go_round_and_pass_over_who_rests() {
        let address: Address = "http://users:1".parse().unwrap();
        let peers = Peers::default();
        assert!(peers.pick().is_none());
        let sockets: Vec<SocketAddr> =
            ["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"].map(|text| text.parse().unwrap()).into();
        peers.update(&address, sockets.clone());
        let mut picked: Vec<_> = (0..3).map(|_| peers.pick().unwrap()).collect();
        picked.sort_by_key(|peer| peer.socket);
        assert!(picked.iter().map(|peer| peer.socket.unwrap()).eq(sockets.iter().copied()));

        picked[0].note(false);
        assert!((0..9).all(|_| peers.pick().unwrap().socket != picked[0].socket));
        picked[1].note(false);
        picked[2].note(false);
        // Somebody has to be asked.
        assert!(peers.pick().is_some());

        // An address that stays keeps its channel and its rest, one that goes is forgotten.
        peers.update(&address, sockets[..2].to_vec());
        assert!((0..9).all(|_| peers.pick().unwrap().socket != picked[2].socket));
        assert!(Arc::ptr_eq(&picked[0], &peers.shared.list.read().unwrap()[0]));
    }
}
