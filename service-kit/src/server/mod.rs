//! Serves tonic's routes from its own accept loop, since tonic's `Server` cannot bound a stalled reader's buffer,
//! a silent handshake, the number of connections or its own shutdown; and puts one stack of layers around every call.
//!
//! [`serve`] is the entry point. The caller owns the listener, the routes and the [`Lifecycle`]; [`health`], [`readiness`] and
//! [`reflection`] are for the routes.

mod admission;
mod connection;
pub mod health;
mod leaving;
mod line_limit;
mod methods;
mod metrics;
mod peer;
pub mod readiness;
pub mod reflection;
mod settings;
mod socket;
mod stack;
mod stall;
pub mod tls;
mod turns;

use std::{io, sync::Arc};

use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;
pub use tonic::codec::CompressionEncoding;
use tonic::service::Routes;

#[cfg(feature = "fuzzing")]
pub use self::stack::fuzzing;
use self::{
    admission::{ACCEPT_BACKOFF, Admission, needs_pause},
    connection::Connections,
    stack::Stack,
};
pub use self::{
    leaving::Leaving,
    peer::Peer,
    settings::{MAX_REQUEST_BYTES, Settings},
    stack::{Deadline, RequestId, note_cause},
};
use crate::{
    lifecycle::Lifecycle,
    telemetry::metrics::{counter, gauge},
};

/// Sets what every generated server has: the limit of requests, and compression. What a compressed request unpacks to counts
/// against the limit.
#[macro_export]
macro_rules! configured {
    ($server:expr) => {
        $server
            .max_decoding_message_size($crate::server::MAX_REQUEST_BYTES)
            .accept_compressed($crate::server::CompressionEncoding::Gzip)
            .accept_compressed($crate::server::CompressionEncoding::Zstd)
            .send_compressed($crate::server::CompressionEncoding::Gzip)
            .send_compressed($crate::server::CompressionEncoding::Zstd)
    };
}

/// Serves until the lifecycle is closing, then closes every connection gracefully and waits for them until it is killed.
///
/// Meant for [`Lifecycle::spawn`]. While the lifecycle is only draining, connections and calls are still taken.
///
/// # Errors
/// A descriptor set in the settings that cannot be decoded, or a listener without an address.
pub async fn serve(listener: TcpListener, routes: Routes, settings: Settings, lifecycle: Lifecycle) -> io::Result<()> {
    let local = listener.local_addr()?;
    if let Some(tls) = settings.tls.clone() {
        lifecycle.spawn("certificates", tls.follow(lifecycle.clone()));
    }
    let settings = Arc::new(settings);
    let stack = Stack::new(routes, &settings, local).map_err(io::Error::other)?;
    let admission = Admission::new(settings.max_connections, settings.max_connections_per_address);
    let tasks = TaskTracker::new();
    let connections = Arc::new(Connections::new(settings, stack, lifecycle.clone(), tasks.clone()));

    tracing::info!(%local, "listening");
    let accepting = accept(&listener, &connections, &admission, &tasks);
    lifecycle.closing().run_until_cancelled(accepting).await;
    drop(listener);

    tracing::info!(tasks = tasks.len(), "not accepting any more");
    tasks.close();
    // Connections close gracefully at the closing stage and are dropped at the killed stage; their streams end with them.
    tasks.wait().await;
    Ok(())
}

async fn accept(listener: &TcpListener, connections: &Arc<Connections>, admission: &Admission, tasks: &TaskTracker) {
    let mut backoff = ACCEPT_BACKOFF;
    let mut full = false;
    let (open, refused) = (gauge!("parlance_connections"), counter!("parlance_connections_refused_total"));
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                backoff.reset();
                let Some(place) = admission.admit(peer.ip()) else {
                    refused.increment(1);
                    // One line for a flood of connections.
                    if !std::mem::replace(&mut full, true) {
                        tracing::warn!(%peer, "connections refused: too many");
                    }
                    continue;
                };
                full = false;
                let (connections, open) = (Arc::clone(connections), open.clone());
                tasks.spawn(async move {
                    open.increment(1);
                    connections.serve(stream, peer).await;
                    open.decrement(1);
                    drop(place);
                });
            }
            Err(cause) => {
                if needs_pause(&cause) {
                    let pause = backoff.next_pause();
                    tracing::error!(%cause, ?pause, "cannot accept");
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }
}
