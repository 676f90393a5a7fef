//! One connection from accept to end: the handshake timeout, the maximum age, the graceful close, the drop.

use std::{net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    leaving::Leaving,
    peer::Peer,
    settings::Settings,
    socket::{Socket, Wire},
    stack::Stack,
    stall::StreamExecutor,
    tls::Secured,
    turns::Turns,
};
use crate::{backoff::jittered, lifecycle::Lifecycle, telemetry::metrics::counter};

/// The state that all connections of a server share.
#[derive(Debug)]
pub(super) struct Connections {
    protocol: auto::Builder<StreamExecutor>,
    settings: Arc<Settings>,
    stack: Stack,
    lifecycle: Lifecycle,
}

/// The stage of a connection. Its one timer ends the stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The peer has not completed the handshake.
    Handshake,
    /// In use, until it reaches the maximum age.
    Open,
    /// Closing gracefully: no new calls, running ones may end.
    Leaving,
}

/// Both ends of a connection, and when its handshake must be complete.
struct Ends {
    local: Option<SocketAddr>,
    peer: SocketAddr,
    due: Instant,
}

impl Connections {
    pub(super) fn new(settings: Arc<Settings>, stack: Stack, lifecycle: Lifecycle, streams: TaskTracker) -> Self {
        let executor = StreamExecutor { tasks: streams };
        let mut protocol = auto::Builder::new(executor);
        protocol
            .http1()
            .timer(TokioTimer::new())
            // From the end of a call: the socket bounds the head itself.
            .header_read_timeout(settings.http1_idle_timeout)
            .max_buf_size(settings.max_send_buffer_bytes.max(MIN_HTTP1_BUFFER_BYTES));
        protocol
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(settings.max_concurrent_streams)
            .max_pending_accept_reset_streams(settings.max_concurrent_streams as usize)
            .max_send_buf_size(settings.max_send_buffer_bytes)
            .max_header_list_size(settings.max_header_list_bytes)
            // Always a number: for hyper, "none" is no limit.
            .max_local_error_reset_streams(settings.max_local_error_resets)
            .initial_stream_window_size(settings.stream_window_bytes)
            .initial_connection_window_size(settings.connection_window_bytes)
            .keep_alive_interval(settings.keepalive_interval)
            .keep_alive_timeout(settings.keepalive_timeout);
        Self { protocol, settings, stack, lifecycle }
    }

    /// Serves one connection to its end.
    pub(super) async fn serve(&self, stream: TcpStream, peer: SocketAddr) {
        if let Err(cause) = tune(&stream, self.settings.tcp_keepalive) {
            tracing::debug!(%peer, %cause, "socket options refused");
        }
        let due = Instant::now() + self.settings.handshake_timeout;
        let ends = Ends { local: stream.local_addr().ok(), peer, due };
        let wire = Wire::new(stream, self.settings.stall_timeout);
        let Some(tls) = &self.settings.tls else {
            return self.speak(wire, ends, Peer::default(), CancellationToken::new()).await;
        };
        let handshake = timeout_at(due, tls.accept(wire));
        let end = match self.lifecycle.closing().run_until_cancelled(handshake).await {
            Some(Ok(Ok(Secured { stream, peer, withdrawn }))) => {
                return self.speak(stream, ends, peer, withdrawn).await;
            }
            Some(Ok(Err(cause))) => format!("TLS handshake failed: {cause}"),
            Some(Err(_)) => "dropped: silent peer".to_owned(),
            None => "dropped: shutdown".to_owned(),
        };
        counter!("parlance_tls_handshakes_failed_total").increment(1);
        tracing::debug!(%peer, end, "connection ended");
    }

    /// Serves a connection from the preface on. It closes gracefully once `withdrawn` is cancelled.
    async fn speak<S>(&self, stream: S, ends: Ends, identity: Peer, withdrawn: CancellationToken)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Ends { local, peer, due } = ends;
        let turns = Turns::default();
        let socket = Socket::new(stream, &self.settings, turns.clone());
        // Streams end with a hint to reconnect when the connection is closed gracefully.
        let leaving = Leaving::within(self.lifecycle.closing());
        let service = self.stack.for_connection(local, peer, identity, leaving.clone(), turns.clone());
        let mut connection = pin!(self.protocol.serve_connection(TokioIo::new(socket), service));

        let mut stage = Stage::Handshake;
        let mut timer = pin!(tokio::time::sleep_until(due));
        let end = loop {
            tokio::select! {
                // The connection first: bytes that have arrived count even when this task was scheduled late.
                biased;
                result = connection.as_mut() => break result.err().map_or_else(|| "closed".to_owned(), |error| error.to_string()),
                () = self.lifecycle.killed().cancelled() => break "dropped: shutdown".to_owned(),
                () = self.lifecycle.closing().cancelled(), if stage != Stage::Leaving => {
                    // The kill stage bounds it.
                    stage = Stage::Leaving;
                    timer.as_mut().reset(Instant::now() + FAR);
                    connection.as_mut().graceful_shutdown();
                }
                () = withdrawn.cancelled(), if stage != Stage::Leaving => {
                    stage = Stage::Leaving;
                    leaving.begin();
                    timer.as_mut().reset(Instant::now() + self.settings.connection_age_grace);
                    connection.as_mut().graceful_shutdown();
                }
                () = timer.as_mut() => match stage {
                    Stage::Handshake if !turns.is_greeted() => break "dropped: silent peer".to_owned(),
                    Stage::Handshake => {
                        stage = Stage::Open;
                        timer.as_mut().reset(Instant::now() + jittered(self.settings.max_connection_age, 0.9..1.1));
                    }
                    Stage::Open => {
                        stage = Stage::Leaving;
                        leaving.begin();
                        timer.as_mut().reset(Instant::now() + self.settings.connection_age_grace);
                        connection.as_mut().graceful_shutdown();
                    }
                    Stage::Leaving => break "dropped: too old".to_owned(),
                },
            }
        };
        tracing::debug!(%peer, end, "connection ended");
    }
}

/// The minimum that hyper accepts for HTTP/1.1.
const MIN_HTTP1_BUFFER_BYTES: usize = 8 * 1024;

/// Longer than any drain.
const FAR: Duration = Duration::from_hours(24);

fn tune(stream: &TcpStream, keepalive: Duration) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let probes = TcpKeepalive::new().with_time(keepalive).with_interval(keepalive / 4);
    SockRef::from(stream).set_tcp_keepalive(&probes)
}
