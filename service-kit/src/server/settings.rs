//! The limits and timeouts of the server. Each can be overridden; the defaults are meant for production.

use std::time::Duration;

use super::tls::Tls;
use crate::{
    auth::{Authenticator, Rules},
    names::{HostName, Origin},
};

/// The largest request message that a service decodes, in bytes. Set it on each generated server
/// (`max_decoding_message_size`): the limit lives in the codec, not in the connection.
pub const MAX_REQUEST_BYTES: usize = 1024 * 1024;

/// The same for health and reflection, whose requests are names.
pub(super) const MAX_BUILT_IN_REQUEST_BYTES: usize = 16 * 1024;

/// The bounds of one listening socket and its calls.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Connections open at a time. One beyond is accepted and closed at once: its client learns that immediately and
    /// can go to another replica, and the kernel's backlog stays free. Keep it below the limit of open files.
    pub max_connections: usize,
    /// The same per peer address, or network of 64 bits in IPv6; none when all clients connect through a proxy.
    pub max_connections_per_address: Option<usize>,
    /// From accept to the 24 bytes of the HTTP/2 preface or, for HTTP/1.1, the end of the first request's head; also from the
    /// first byte to the last of each later head.
    pub handshake_timeout: Duration,
    /// The time for which an HTTP/1.1 connection stays open between two calls. A proxy that closes sooner never sends a call
    /// into a connection that is being closed here: nginx and ALB keep theirs for 1 min, Google's balancers for 10.
    pub http1_idle_timeout: Duration,
    /// Streams open at a time on one connection. A multiplexing proxy needs hundreds. Also the number of streams that a peer
    /// may have reset before they are looked at: it may cancel all of them at once, but not again and again (CVE-2023-44487).
    pub max_concurrent_streams: u32,
    /// Bytes of one response that wait for the peer's window before the handler's stream is no longer polled.
    pub max_send_buffer_bytes: usize,
    /// Size of a decoded header list, in bytes. A peer far beyond loses the connection.
    pub max_header_list_bytes: u32,
    /// Resets that the peer's own protocol errors may cause on one connection before it is closed (CVE-2025-8671).
    pub max_local_error_resets: usize,
    /// The receive window of one stream, in bytes.
    pub stream_window_bytes: u32,
    /// The receive window of a connection, in bytes. The allowance for unread small frames is
    /// half of it.
    pub connection_window_bytes: u32,
    /// The interval of pings to a silent HTTP/2 peer.
    pub keepalive_interval: Duration,
    /// The timeout of a ping.
    pub keepalive_timeout: Duration,
    /// Idle time before the kernel probes a TCP peer.
    pub tcp_keepalive: Duration,
    /// Age at which a connection is closed gracefully (GOAWAY), varied by a tenth, so that load spreads over new replicas.
    pub max_connection_age: Duration,
    /// The time for calls of a connection that has reached its age to end, before they are dropped with it.
    pub connection_age_grace: Duration,
    /// The time for which a peer may read nothing, of a stream or from the socket, before that is closed.
    pub stall_timeout: Duration,
    /// The same for the response of a unary call.
    pub response_timeout: Duration,
    /// The deadline of unary calls that bring none. A stream without one must begin its response within it.
    pub default_deadline: Duration,
    /// The upper bound of the deadline of unary calls, and of the time in which a stream must begin its response.
    pub max_deadline: Duration,
    /// The time in which the message of a unary call must arrive, and each message of a stream from its first byte on.
    pub request_timeout: Duration,
    /// The bytes that all requests hold together, of their messages beyond 1 KiB, until these are complete and, in unary
    /// calls, handled. Beyond, a request is refused with retry advice.
    pub max_request_bytes_held: usize,
    /// The bytes that the responses of unary calls hold together, beyond 1 KiB of each, until their peers have taken them.
    /// Beyond, a call is refused with retry advice.
    ///
    /// Of this, and of the three numbers around it, one connection may have a quarter, and all of one address a half if
    /// `max_connections_per_address` is set.
    pub max_response_bytes_held: usize,
    /// Streams open at a time, those of health not counted. Beyond, one is refused with retry advice.
    pub max_streams: usize,
    /// Unary calls running at a time, health checks not counted. Beyond, a call is refused with retry advice.
    pub max_unary_calls: usize,
    /// Answer only loopback names in `Host` and `:authority` while the listener is bound to loopback, so that a web page
    /// cannot reach a developer's machine by rebinding its own name. For use without authentication.
    pub check_host: bool,
    /// Host names that are answered beside the loopback names.
    pub allow_hosts: Vec<HostName>,
    /// Origins whose pages may call over gRPC-Web. Others are refused. Without any no CORS header is ever sent.
    pub cors_allow_origins: Vec<Origin>,
    /// Encoded descriptor sets of the services served: they distinguish unary methods from streams. A method in none of
    /// them counts as unary.
    pub descriptors: Vec<&'static [u8]>,
    /// Who may call which of their methods. One without a rule is refused.
    pub rules: Rules,
    /// Decides who calls.
    pub authenticator: Authenticator,
    /// TLS; `None`: plain text.
    pub tls: Option<Tls>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            max_connections_per_address: None,
            handshake_timeout: Duration::from_secs(10),
            http1_idle_timeout: Duration::from_mins(11),
            max_concurrent_streams: 1_024,
            max_send_buffer_bytes: 64 * 1024,
            max_header_list_bytes: 16 * 1024,
            max_local_error_resets: 1_024,
            stream_window_bytes: 128 * 1024,
            connection_window_bytes: 4 * 1024 * 1024,
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(10),
            tcp_keepalive: Duration::from_mins(1),
            max_connection_age: Duration::from_mins(30),
            connection_age_grace: Duration::from_mins(5),
            stall_timeout: Duration::from_mins(5),
            response_timeout: Duration::from_secs(30),
            default_deadline: Duration::from_secs(30),
            max_deadline: Duration::from_mins(5),
            request_timeout: Duration::from_secs(10),
            max_request_bytes_held: 64 * 1024 * 1024,
            max_response_bytes_held: 128 * 1024 * 1024,
            max_streams: 20_000,
            max_unary_calls: 4_096,
            check_host: true,
            allow_hosts: Vec::new(),
            cors_allow_origins: Vec::new(),
            descriptors: Vec::new(),
            rules: Vec::new(),
            authenticator: Authenticator::off(),
            tls: None,
        }
    }
}
