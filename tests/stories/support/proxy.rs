//! A TCP proxy before the database or a service: it can be closed, silent, lose responses, or cut connections.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    select,
    sync::watch,
};

use super::TestDatabase;

/// The proxy's handling of connections, open ones included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Forwards both ways.
    Open,
    /// Closes connections.
    Closed,
    /// Forwards requests; closes the connection in place of the next response.
    LosingResponses,
    /// Forwards nothing, without closing; a connection that was open meanwhile stays silent forever.
    Silent,
    /// Closes a connection to PostgreSQL in place of the complete reply to a request that contains these bytes.
    LosingReplies { to: &'static [u8] },
    /// Closes each connection after so many more bytes of answers or of requests.
    Cutting { after: usize, of_answers: bool, by_reset: bool },
}

/// A proxy between a service and its dependency. Ends with this value.
pub struct Proxy {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    server: watch::Sender<String>,
    lost: Arc<AtomicUsize>,
}

impl Proxy {
    /// Starts one before the test server, on a free port of loopback.
    pub async fn start(mode: Mode) -> Self {
        Self::before(TestDatabase::server_address(), mode).await
    }

    /// Starts one before any host and port.
    pub async fn before(server: String, mode: Mode) -> Self {
        Self::at("127.0.0.1", server, mode).await
    }

    /// Starts one at an address of this machine.
    pub async fn at(own: &str, server: String, mode: Mode) -> Self {
        let listener = TcpListener::bind((own, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (mode, modes) = watch::channel(mode);
        let (server, servers) = watch::channel(server);
        let lost = Arc::new(AtomicUsize::new(0));
        let counted = lost.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if modes.has_changed().is_err() {
                    return;
                }
                let server = servers.borrow().clone();
                tokio::spawn(pass(client, server, modes.clone(), counted.clone()));
            }
        });
        Self { address, mode, server, lost }
    }

    /// Returns the port to reach it through.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Connects new connections to another target.
    pub fn redirect_to(&self, server: String) {
        self.server.send_replace(server);
    }

    /// Returns the number of connections that it has ended to lose or cut something.
    pub fn lost(&self) -> usize {
        self.lost.load(Ordering::Relaxed)
    }

    /// Changes the mode, also for open connections.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

/// The two ends of a connection through the proxy.
struct Pair {
    client: TcpStream,
    server: TcpStream,
}

async fn pass(client: TcpStream, server: String, mut modes: watch::Receiver<Mode>, lost: Arc<AtomicUsize>) {
    if *modes.borrow_and_update() == Mode::Closed {
        return;
    }
    let Ok(server) = TcpStream::connect(server).await else { return };
    let mut pair = Pair { client, server };
    let forwarding = modes.clone();
    let fell_silent = select! {
        is_lost = pair.forward(&forwarding) => {
            lost.fetch_add(usize::from(is_lost), Ordering::Relaxed);
            return;
        }
        mode = modes.wait_for(|mode| matches!(mode, Mode::Closed | Mode::Silent)) => {
            mode.is_ok_and(|mode| *mode == Mode::Silent)
        }
    };
    if fell_silent {
        // Not even the client's close is forwarded.
        let mut nothing = [0; 8192];
        while pair.client.read(&mut nothing).await.is_ok_and(|length| length > 0) {}
    }
}

impl Pair {
    /// Forwards both ways until an end, or until the mode loses something: then returns true.
    async fn forward(&mut self, modes: &watch::Receiver<Mode>) -> bool {
        let (mut from_client, mut from_server) = ([0; 8192], [0; 8192]);
        // The request that is being answered is one whose reply is to be lost.
        let mut is_marked = false;
        let mut cut_after = None;
        loop {
            let (answer, length) = select! {
                read = self.client.read(&mut from_client) => (false, read.unwrap_or(0)),
                read = self.server.read(&mut from_server) => (true, read.unwrap_or(0)),
            };
            let bytes = if answer { &from_server[..length] } else { &from_client[..length] };
            if bytes.is_empty() {
                return false;
            }
            let mode = *modes.borrow();
            let mut passed = bytes;
            match mode {
                Mode::LosingResponses if answer => return true,
                // A reply that is complete: what it answers is committed.
                Mode::LosingReplies { .. } if answer && is_marked && contains(bytes, b"SELECT ") => return true,
                Mode::LosingReplies { to } if !answer => is_marked |= contains(bytes, to),
                Mode::Cutting { after, of_answers, .. } if answer == of_answers => {
                    let left = cut_after.get_or_insert(after);
                    passed = &bytes[..bytes.len().min(*left)];
                    *left -= passed.len();
                }
                _ => is_marked &= !answer,
            }
            let to = if answer { &mut self.client } else { &mut self.server };
            if to.write_all(passed).await.is_err() {
                return false;
            }
            if let (Mode::Cutting { by_reset, .. }, Some(0)) = (mode, cut_after) {
                if by_reset {
                    let _ = self.client.set_zero_linger();
                    let _ = self.server.set_zero_linger();
                }
                return true;
            }
        }
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
