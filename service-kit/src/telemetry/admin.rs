//! The admin port: `GET /metrics` for Prometheus. For operators only: bounded, but not hardened. On loopback it refuses
//! foreign `Host` names, so that no web page reads it under a name that resolves to 127.0.0.1.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinSet, time};

use super::{metrics::Recorder, process};
use crate::names::{HostName, has_known_host};

/// The most connections at a time; others wait.
const MAX_CONNECTIONS: usize = 16;

/// A connection is closed after this, whatever it does.
const CONNECTION_LIMIT: Duration = Duration::from_mins(5);

const HEADER_LIMIT: Duration = Duration::from_secs(10);

/// After an accept that failed, such as for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// The content type of the Prometheus text format.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The host names that are answered beside those of loopback; `None` if all are.
pub(super) type Hosts = Option<Arc<[HostName]>>;

/// Answers until it is dropped.
pub(super) async fn serve(listener: TcpListener, recorder: Recorder, hosts: Hosts) {
    let mut connections = JoinSet::new();
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(cause) => {
                tracing::warn!(%cause, "cannot accept on the admin port");
                time::sleep(PAUSE).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        let (recorder, hosts) = (recorder.clone(), hosts.clone());
        connections.spawn(async move {
            let answer = service_fn(move |request| {
                std::future::ready(Ok::<_, Infallible>(answer(&request, &recorder, hosts.as_deref())))
            });
            let mut protocol = http1::Builder::new();
            protocol.timer(TokioTimer::new()).header_read_timeout(HEADER_LIMIT);
            let connection = protocol.serve_connection(TokioIo::new(stream), answer);
            // How a connection of a scraper ends is of no interest.
            let _ = time::timeout(CONNECTION_LIMIT, connection).await;
            drop(place);
        });
    }
}

/// Returns the page, with the metrics of the process as they are now.
fn page(recorder: &Recorder) -> String {
    process::read();
    recorder.render()
}

fn answer(request: &Request<Incoming>, recorder: &Recorder, hosts: Option<&[HostName]>) -> Response<Full<Bytes>> {
    let (status, kind, text) = match (request.method(), request.uri().path()) {
        _ if hosts.is_some_and(|hosts| !has_known_host(request, hosts)) => {
            let text = "metrics are at localhost and the names of --allow-host (ALLOW_HOST)\n";
            (StatusCode::FORBIDDEN, "text/plain", text.to_owned())
        }
        (&Method::GET | &Method::HEAD, "/metrics") => (StatusCode::OK, TEXT_FORMAT, page(recorder)),
        (_, "/metrics") => (StatusCode::METHOD_NOT_ALLOWED, "text/plain", "GET /metrics\n".to_owned()),
        _ => (StatusCode::NOT_FOUND, "text/plain", "metrics are at /metrics\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}
