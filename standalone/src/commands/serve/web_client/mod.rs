//! Serves the web client: a few files from this binary, on a separate listener. The web client itself calls the services
//! over gRPC-Web.

mod files;
mod origins;
mod site;

use std::{convert::Infallible, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use anyhow::Context;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use service_kit::names::{HostName, Origin};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{origins::Services, site::Site};
use crate::say;

/// The most connections at a time. A browser opens at most six.
const MAX_CONNECTIONS: usize = 128;

/// The time limit of a request's head, from accept or the previous response.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// The lifetime of a connection, which bounds what a slow reader can hold. A browser opens another one when it needs it.
const LIFETIME: Duration = Duration::from_mins(1);

/// The time that a response in progress gets when its connection is closed.
const GRACE: Duration = Duration::from_secs(1);

/// The size limit of a request's head; the least that hyper allows.
const MAX_HEAD_BYTES: usize = 8 * 1024;

/// The pause after an accept that failed, such as for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The configured address of the web client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Binding {
    /// The web client is disabled.
    Disabled,
    /// The default address, which is optional: the web client is disabled if it is in use.
    IfFree(SocketAddr),
    /// An address set by the operator; it is an error if it is in use.
    Required(SocketAddr),
}

/// The web client, bound but not served yet.
pub(super) struct WebClient {
    listener: TcpListener,
    address: SocketAddr,
    /// The names that a proxy in front of it passes on.
    proxied: Vec<HostName>,
}

impl WebClient {
    /// Binds the address. Prints a note if the default address is in use. Errors: a required address is in use.
    pub(super) async fn bind(binding: Binding, proxied: &[HostName]) -> anyhow::Result<Option<Self>> {
        match binding {
            Binding::Disabled => Ok(None),
            Binding::Required(address) => {
                let bound = Self::at(address, proxied).await;
                bound.map(Some).with_context(|| format!("the web client cannot be served at {address} (--web-listen)"))
            }
            Binding::IfFree(address) => match Self::at(address, proxied).await {
                Ok(web_client) => Ok(Some(web_client)),
                Err(error) => {
                    say::aside(format_args!(
                        "The web client is disabled: cannot listen on {address} ({error}); --web-listen sets another address."
                    ));
                    Ok(None)
                }
            },
        }
    }

    async fn at(address: SocketAddr, proxied: &[HostName]) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, proxied: proxied.to_vec() })
    }

    /// The address that it listens on.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The origins of the web client, which the services must allow.
    pub(super) fn origins(&self) -> impl Iterator<Item = Origin> + use<> {
        origins::of_web_client(self.address).into_iter().filter_map(|origin| origin.parse().ok())
    }

    /// Serves until `stop`, then waits for responses in progress.
    pub(super) async fn run(self, user: SocketAddr, message: SocketAddr, stop: CancellationToken) {
        let site = Arc::new(Site::new(self.address, Services { user, message }, self.proxied));
        let (permits, tasks) = (Arc::new(Semaphore::new(MAX_CONNECTIONS)), TaskTracker::new());
        tracing::info!(local = %self.address, "serving the web client");
        let accepting = async {
            loop {
                match self.listener.accept().await {
                    // Excess connections are closed at once: the browser notices, and the kernel's queue stays free.
                    Ok((stream, _)) => {
                        if let Ok(permit) = Arc::clone(&permits).try_acquire_owned() {
                            let (site, stop) = (Arc::clone(&site), stop.clone());
                            tasks.spawn(async move {
                                serve(stream, &site, &stop).await;
                                drop(permit);
                            });
                        }
                    }
                    Err(cause) => {
                        tracing::debug!(%cause, "the web client's listener cannot accept");
                        sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        };
        stop.run_until_cancelled(accepting).await;
        drop(self.listener);
        tasks.close();
        tasks.wait().await;
    }
}

async fn serve(stream: TcpStream, site: &Site, stop: &CancellationToken) {
    let service = service_fn(|request| {
        let response = site.answer(&request);
        async { Ok::<_, Infallible>(response) }
    });
    let mut protocol = http1::Builder::new();
    protocol.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(MAX_HEAD_BYTES);
    let mut connection = pin!(protocol.serve_connection(TokioIo::new(stream), service));
    // The reason for the end does not matter to the server.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = stop.cancelled() => {}
        () = sleep(LIFETIME) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(GRACE, connection).await;
}
