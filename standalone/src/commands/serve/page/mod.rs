//! The page: Parlance in a browser, for who has just started it. A few files out of this binary, over a listener of its
//! own; everything else the page does it asks of the services, over gRPC-Web.

mod answer;
mod files;
mod origins;

use std::{convert::Infallible, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use anyhow::Context;
use http::HeaderValue;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{answer::Site, origins::Services};
use crate::say;

/// Connections at a time. A browser has six at most.
const MAX_CONNECTIONS: usize = 128;

/// From accept, or the answer before, to the end of a request's head.
const HEAD_LIMIT: Duration = Duration::from_secs(10);

/// How long a connection lives. A browser makes another one when it needs it; who reads slowly holds a place so long.
const LIFETIME: Duration = Duration::from_mins(1);

/// What an answer under way gets when its connection is to end.
const GRACE: Duration = Duration::from_secs(1);

/// The least that hyper allows; a request has no more than a head.
const MAX_HEAD_BYTES: usize = 8 * 1024;

/// After an accept that failed, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where the page is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Nowhere.
    Nowhere,
    /// Where it usually is, if that is free: it is not what this was started for.
    Usual(SocketAddr),
    /// Here.
    At(SocketAddr),
}

/// The page, bound and not served yet.
pub(super) struct Page {
    listener: TcpListener,
    address: SocketAddr,
}

impl Page {
    /// Binds; says so if the usual place is taken. Errors: the place asked for is.
    pub(super) async fn bind(place: Place) -> anyhow::Result<Option<Self>> {
        match place {
            Place::Nowhere => Ok(None),
            Place::At(wanted) => {
                let bound = Self::at(wanted).await;
                bound.map(Some).with_context(|| format!("the page cannot be served at {wanted} (--web-listen)"))
            }
            Place::Usual(wanted) => match Self::at(wanted).await {
                Ok(page) => Ok(Some(page)),
                Err(error) => {
                    say::aside(format_args!(
                        "The page is not served: {wanted} cannot be listened on ({error}); --web-listen takes another address."
                    ));
                    Ok(None)
                }
            },
        }
    }

    async fn at(wanted: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(wanted).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What the browser calls the page's origin: the services have to let it call.
    pub(super) fn origins(&self) -> impl Iterator<Item = HeaderValue> + use<> {
        origins::of_page(self.address).into_iter().filter_map(|origin| origin.parse().ok())
    }

    /// Serves until `stop`, then lets what is under way end.
    pub(super) async fn run(self, user: SocketAddr, message: SocketAddr, stop: CancellationToken) {
        let site = Arc::new(Site::new(self.address, Services { user, message }));
        let (places, tasks) = (Arc::new(Semaphore::new(MAX_CONNECTIONS)), TaskTracker::new());
        tracing::info!(local = %self.address, "the page is served");
        let accepting = async {
            loop {
                match self.listener.accept().await {
                    // One connection too many is closed at once: its browser learns it, and the kernel's queue stays free.
                    Ok((stream, _)) => {
                        if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
                            let (site, stop) = (Arc::clone(&site), stop.clone());
                            tasks.spawn(async move {
                                serve(stream, &site, &stop).await;
                                drop(place);
                            });
                        }
                    }
                    Err(cause) => {
                        tracing::debug!(%cause, "the page's listener cannot accept");
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
        let answer = site.answer(&request);
        async { Ok::<_, Infallible>(answer) }
    });
    let mut protocol = http1::Builder::new();
    protocol.timer(TokioTimer::new()).header_read_timeout(HEAD_LIMIT).max_buf_size(MAX_HEAD_BYTES);
    let mut connection = pin!(protocol.serve_connection(TokioIo::new(stream), service));
    // Why it ends is the browser's business.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = stop.cancelled() => {}
        () = sleep(LIFETIME) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(GRACE, connection).await;
}
