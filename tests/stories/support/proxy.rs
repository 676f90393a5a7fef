//! A TCP proxy before the database or a service: it can be closed, silent, or lose responses.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
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
}

/// A proxy between a service and its dependency. Ends with this value.
pub struct Proxy {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    server: watch::Sender<String>,
}

impl Proxy {
    /// Starts one before the test server, on a free port of loopback.
    pub async fn start(mode: Mode) -> Self {
        Self::before(TestDatabase::server_address(), mode).await
    }

    /// Starts one before any host and port.
    pub async fn before(server: String, mode: Mode) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (mode, modes) = watch::channel(mode);
        let (server, servers) = watch::channel(server);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if modes.has_changed().is_err() {
                    return;
                }
                let server = servers.borrow().clone();
                tokio::spawn(pass(client, server, modes.clone()));
            }
        });
        Self { address, mode, server }
    }

    /// Returns the port to reach it through.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Connects new connections to another target.
    pub fn redirect_to(&self, server: String) {
        self.server.send_replace(server);
    }

    /// Changes the mode, also for open connections.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

async fn pass(client: TcpStream, server: String, mut modes: watch::Receiver<Mode>) {
    if *modes.borrow_and_update() == Mode::Closed {
        return;
    }
    let Ok(server) = TcpStream::connect(server).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let answering = modes.clone();
    let mut swallowing = modes.clone();
    let questions = async { copy(&mut from_client, &mut to_server).await.map(drop) };
    let answers = async {
        let mut buffer = [0; 8192];
        loop {
            let length = from_server.read(&mut buffer).await?;
            if length == 0 || *answering.borrow() == Mode::LosingResponses {
                return Ok::<_, std::io::Error>(());
            }
            to_client.write_all(&buffer[..length]).await?;
        }
    };
    let fell_silent = select! {
        _ = questions => false,
        _ = answers => false,
        _ = modes.wait_for(|mode| *mode == Mode::Closed) => false,
        _ = swallowing.wait_for(|mode| *mode == Mode::Silent) => true,
    };
    if fell_silent {
        // Not even the client's close is forwarded.
        let mut nothing = [0; 8192];
        while from_client.read(&mut nothing).await.is_ok_and(|length| length > 0) {}
        drop((to_client, from_server, to_server));
    }
}
