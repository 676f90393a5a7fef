//! Starts servers on free ports, calls them, waits with a deadline.

use std::{
    fmt::Debug,
    net::SocketAddr,
    time::{Duration, Instant},
};

use http::uri::PathAndQuery;
use service_kit::{
    auth::Rule,
    lifecycle::{Fault, Grace, Lifecycle},
    server::{self, Settings, health::Health, reflection},
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tonic::{
    Request, Response, Status, Streaming,
    client::Grpc,
    service::Routes,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;
use tonic_types::StatusExt;

use crate::{
    raw::Peer,
    subject::{FLOW, Subject, UNARY, descriptors},
};

/// The longest that a test waits for anything, so that a slow machine fails none.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A running server. It is killed when dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) health: Health,
    pub(crate) subject: Subject,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.lifecycle.draining().cancel();
        self.lifecycle.closing().cancel();
        self.lifecycle.killed().cancel();
    }
}

/// Settings for tests: the descriptors of the subject, the rest as in production.
pub(crate) fn settings() -> Settings {
    let rules = ["/subject.v1.Subject/Unary", "/subject.v1.Subject/Flow"].map(|path| (path, Rule::AnyCaller)).into();
    Settings { descriptors: vec![descriptors()], rules, ..Settings::default() }
}

pub(crate) async fn start(settings: Settings) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (lifecycle, subject) = (Lifecycle::new(), Subject::default());
    let health = Health::new(["subject.v1.Subject"]);
    health.follow(&lifecycle);
    let routes = Routes::new(subject.clone()).add_service(health.server());
    let routes = reflection::add_to(routes, &settings.descriptors, &["subject.v1.Subject"]).unwrap();
    lifecycle.spawn("server", server::serve(listener, routes, settings, lifecycle.clone()));
    Server { address, lifecycle, health, subject }
}

impl Server {
    pub(crate) async fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.address)).unwrap().connect().await.unwrap()
    }

    pub(crate) async fn tcp(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Shuts down with these graces, as a signal would.
    pub(crate) fn stop(&self, grace: Grace) -> JoinHandle<Result<(), Fault>> {
        let lifecycle = self.lifecycle.clone();
        tokio::spawn(async move { lifecycle.run(async {}, grace).await })
    }

    /// Fails unless the server still answers on a new connection.
    pub(crate) async fn assert_lives(&self) {
        let answer = within(unary(&self.channel().await, "hello")).await.unwrap();
        assert_eq!(answer.into_inner(), "you said hello");
    }
}

pub(crate) async fn unary(channel: &Channel, text: impl Into<String>) -> Result<Response<String>, Status> {
    unary_of(channel, UNARY, Request::new(text.into())).await
}

pub(crate) async fn unary_of(
    channel: &Channel,
    path: &'static str,
    request: Request<String>,
) -> Result<Response<String>, Status> {
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    grpc.unary(request, PathAndQuery::from_static(path), ProstCodec::<String, String>::default()).await
}

pub(crate) async fn flow(channel: &Channel, request: Request<String>) -> Result<Streaming<String>, Status> {
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let codec = ProstCodec::<String, String>::default();
    grpc.server_streaming(request, PathAndQuery::from_static(FLOW), codec).await.map(Response::into_inner)
}

/// Returns the reason in a status, which every status must have.
pub(crate) fn reason(status: &Status) -> String {
    let details = status.check_error_details().unwrap_or_else(|error| panic!("{error}: {status:?}"));
    details.error_info().unwrap_or_else(|| panic!("no ErrorInfo: {status:?}")).reason.clone()
}

/// Waits for a future, at most [`PATIENCE`].
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it takes too long")
}

/// Polls until the value is the expected one; panics with the last value if it never is.
pub(crate) async fn eventually<T: Debug>(mut read: impl FnMut() -> T, wanted: impl Fn(&T) -> bool) -> T {
    let started = Instant::now();
    loop {
        let seen = read();
        if wanted(&seen) {
            return seen;
        }
        assert!(started.elapsed() < PATIENCE, "last seen: {seen:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Connects until the server has a place for it.
pub(crate) async fn await_a_place(server: &Server) {
    let started = Instant::now();
    while Peer::greet(server.tcp().await, &[]).await.next().await.is_none() {
        assert!(started.elapsed() < PATIENCE, "no place is ever free");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
