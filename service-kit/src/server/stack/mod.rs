//! The layers around every call of both services, outermost first: panics, `Host`, CORS, content type, origin, gRPC-Web,
//! then request id, span and log line, caller, deadline, the message, limit, and statuses of one form.
//!
//! This file is the order; each layer is in its own file. Handlers find [`Caller`], [`Deadline`] and [`RequestId`]
//! in the request's extensions, those of streams also a [`Tenure`].

mod arriving;
mod body;
mod cause;
mod content_type;
mod cors;
pub(super) mod deadline;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod host;
mod large;
mod log;
mod message;
mod origin;
mod quota;
mod request_id;
mod response;
mod rest;
mod shares;
mod status;

use std::{convert::Infallible, fmt, future::Future, net::SocketAddr, panic::AssertUnwindSafe, pin::Pin, sync::Arc};

use futures_util::FutureExt;
use http::{HeaderValue, Request, Response, Version, header::WWW_AUTHENTICATE};
use hyper::body::Incoming;
use prost::DecodeError;
use tokio::time::{Instant, timeout_at};
use tonic::{Code, Status, body::Body, service::Routes, transport::server::TcpConnectInfo};
use tonic_web::GrpcWebLayer;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_http::cors::CorsLayer;
use tracing::Instrument;

use self::{
    arriving::Arriving,
    body::{Bounds, CallBody, Overrun},
    log::CallLog,
    quota::{Quota, Taken},
    response::IsWhole,
    rest::Rest,
    shares::{Quotas, Share, Shares},
    status::panicked,
};
pub use self::{cause::note_cause, deadline::Deadline, request_id::RequestId};
use super::{
    admission::counted,
    leaving::Leaving,
    methods::{Kind, Method, Methods},
    peer::Peer,
    settings::{MAX_BUILT_IN_REQUEST_BYTES, MAX_REQUEST_BYTES, Settings},
    stall::Paced,
    turns::Turns,
};
use crate::{
    auth::{Caller, Rule, Tenure, check_unruled},
    failure::Failure,
    lifecycle::panic_text,
};

/// The most streams of health. Each replica is watched by its orchestrator and a few load balancers.
const MAX_HEALTH_STREAMS: usize = 1_000;

/// The layers of one server around its routes. Clones share them.
#[derive(Clone)]
pub(super) struct Stack(Arc<Layers>);

struct Layers {
    routes: Routes,
    methods: Methods,
    loopback_hosts_only: bool,
    cors: Option<CorsLayer>,
    settings: Arc<Settings>,
    shares: Shares,
    /// Apart: probes must get through when everything else is full.
    health_streams: Quota,
}

impl Stack {
    /// Builds the layers. `local` is where the server listens.
    pub(super) fn new(routes: Routes, settings: &Arc<Settings>, local: SocketAddr) -> Result<Self, DecodeError> {
        Ok(Self(Arc::new(Layers {
            routes: routes.prepare(),
            methods: Methods::read(&settings.descriptors, &settings.rules)?,
            loopback_hosts_only: settings.check_host && local.ip().is_loopback(),
            cors: cors::layer(&settings.cors_allow_origins),
            settings: Arc::clone(settings),
            shares: Shares::new(settings),
            health_streams: Quota::new(MAX_HEALTH_STREAMS, "streams of health open at a time"),
        })))
    }

    /// Returns the service of one connection.
    pub(super) fn for_connection(
        &self,
        local: Option<SocketAddr>,
        peer: SocketAddr,
        identity: Peer,
        leaving: Leaving,
        turns: Turns,
    ) -> ConnectionStack {
        let addresses = TcpConnectInfo { local_addr: local, remote_addr: Some(peer) };
        ConnectionStack {
            stack: self.clone(),
            addresses,
            identity,
            leaving,
            turns,
            share: self.0.shares.of_connection(counted(peer.ip())),
        }
    }

    async fn answer(self, request: Request<Body>) -> Response<Body> {
        if self.0.loopback_hosts_only
            && let Err(failure) = host::check(&request, &self.0.settings.allow_hosts)
        {
            return refuse(failure);
        }
        let Some(cors) = self.0.cors.clone() else {
            return self.translated(request).await;
        };
        let within = service_fn(move |request| self.clone().translated(request).map(Ok::<_, Infallible>));
        let Ok(response) = cors.layer(within).oneshot(request).await;
        response
    }

    async fn translated(self, request: Request<Body>) -> Response<Body> {
        match content_type::check(&request) {
            Err(refusal) => refusal,
            Ok(content_type::Protocol::Grpc) => self.call(request).await,
            Ok(content_type::Protocol::GrpcWeb) => {
                if let Err(failure) = origin::check(&request, &self.0.settings.cors_allow_origins) {
                    return refuse(failure);
                }
                let within = service_fn(move |request| self.clone().call(request).map(Ok::<_, Infallible>));
                let Ok(response) = GrpcWebLayer::new().layer(within).oneshot(request).await;
                response
            }
        }
    }

    async fn call(self, mut request: Request<Body>) -> Response<Body> {
        let request_id = RequestId::of(request.headers());
        let echo = request_id.to_header();
        let mut log = CallLog::begin(&self.0.methods, request.uri().path(), &request_id, request.headers());
        request.extensions_mut().insert(request_id);

        let span = log.span();
        let mut response = match self.bounded(request).instrument(span).await {
            Ok((response, held)) => match status::of_head(&response).map(status::normalise) {
                None => response.map(|body| Body::new(CallBody::new(body, log, held))),
                Some(status) => {
                    log.failed(&status, None);
                    status.into_http()
                }
            },
            Err(status) => {
                let status = status::normalise(status);
                log.failed(&status, None);
                let is_unauthenticated = status.code() == Code::Unauthenticated;
                let mut response = status.into_http();
                if is_unauthenticated {
                    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(CHALLENGE));
                }
                response
            }
        };
        response.headers_mut().insert(request_id::HEADER, echo);
        response
    }

    /// Runs the handler within its deadline and the limit.
    async fn bounded(&self, mut request: Request<Body>) -> Result<(Response<Body>, Bounds), Status> {
        let (started, settings) = (Instant::now(), &self.0.settings);
        let method = self.0.methods.find(request.uri().path());
        let overrun = self.authorise(&mut request, method).await?;
        let unary = method.is_none_or(|method| method.kind == Kind::Unary);
        let requested = deadline::requested(request.headers())?.and_then(|timeout| started.checked_add(timeout));
        let head_due = requested.unwrap_or(started + settings.default_deadline).min(started + settings.max_deadline);
        let deadline = if unary { Some(head_due) } else { requested };
        request.extensions_mut().insert(deadline.map_or_else(Deadline::none, Deadline::at));
        let quotas = request.extensions_mut().remove::<Arc<Quotas>>().unwrap_or_else(|| self.0.shares.all());
        request.extensions_mut().insert(quotas.work.clone());
        let stream = self.open_stream(method, &quotas)?;

        let handler = AssertUnwindSafe(self.handled(request, method, &quotas, head_due)).catch_unwind();
        match timeout_at(head_due, handler).await {
            Ok(Ok(Ok(response))) => {
                Ok((status::excuse(response, head_due)?, Bounds { due: requested, overrun, _stream: stream }))
            }
            Ok(Ok(Err(status))) => Err(status),
            Ok(Err(panic)) => Err(panicked(&*panic).into()),
            Err(_) => Err(deadline::exceeded().into()),
        }
    }

    /// Finds out who calls, and holds the rule of the method against it: by the headers alone, so that a refusal costs neither
    /// a place nor a message. Of a stream, returns what ends it if its handler does not.
    async fn authorise(
        &self,
        request: &mut Request<Body>,
        method: Option<&Method>,
    ) -> Result<Option<Overrun>, Failure> {
        let peer = Peer::of(request.extensions()).cloned();
        let caller = self.0.settings.authenticator.authenticate(request.headers_mut(), peer.as_ref()).await?;
        match method.and_then(|method| method.rule) {
            Some(rule) => {
                rule.check(&caller)?;
                if let (Some(method), Caller::Trusted, true) = (method, &caller, rule != Rule::Open) {
                    self.0.settings.authenticator.note_without_token(&method.service, &method.name);
                }
            }
            None => check_unruled(&caller)?,
        }
        let mut overrun = None;
        if method.is_some_and(|method| method.kind == Kind::Streaming) {
            let tenure = Tenure::of_stream(&caller, &self.0.settings.authenticator);
            overrun = tenure.overrun().map(FutureExt::boxed);
            request.extensions_mut().insert(tenure);
        }
        request.extensions_mut().insert(caller);
        Ok(overrun)
    }

    /// Takes a place for a stream.
    fn open_stream(&self, method: Option<&Method>, quotas: &Quotas) -> Result<Option<Taken>, Failure> {
        match method {
            Some(method) if method.kind == Kind::Unary => Ok(None),
            Some(method) if is_health(method) => self.0.health_streams.take(1).map(Some),
            Some(_) => quotas.streams.take(1).map(Some),
            None => Ok(None),
        }
    }

    /// Calls the handler: of a unary method when the message is complete and there is a place.
    async fn handled(
        &self,
        mut request: Request<Body>,
        method: Option<&Method>,
        quotas: &Quotas,
        due: Instant,
    ) -> Result<Response<Body>, Status> {
        let timeout = self.0.settings.request_timeout;
        // Until the handler is done with it.
        let mut held = quotas.requests.hold();
        match method.map(|method| method.kind) {
            Some(Kind::Unary) => {
                let limit =
                    if method.is_some_and(is_built_in) { MAX_BUILT_IN_REQUEST_BYTES } else { MAX_REQUEST_BYTES };
                request = message::complete(request, limit, Instant::now() + timeout, &mut held, &quotas.work).await?;
            }
            Some(Kind::Streaming) => {
                request = request.map(|body| Body::new(Arriving::new(body, quotas, timeout)));
            }
            None => {}
        }
        // The deadline may have passed meanwhile, or before: then the handler could only fail for another reason.
        if due <= Instant::now() {
            return Err(deadline::exceeded().into());
        }
        if !method.is_some_and(is_page) {
            // A small response is faster as it is, and some clients always offer compression.
            request.headers_mut().remove("grpc-accept-encoding");
        }
        let unary = method.is_none_or(|method| method.kind == Kind::Unary);
        let is_counted = unary && !method.is_some_and(is_health);
        let _place = is_counted.then(|| quotas.calls.take(1)).transpose()?;
        let handling = async {
            let Ok(response) = self.0.routes.clone().call(request).await;
            if unary { response::encode(response, &quotas.responses).await } else { Ok(response) }
        };
        quotas.work.metered(handling).await
    }
}

/// For gateways that know HTTP only.
const CHALLENGE: &str = r#"Bearer error="invalid_token""#;

/// Probes must get through when everything else is full.
fn is_health(method: &Method) -> bool {
    method.service == "grpc.health.v1.Health"
}

/// True for the methods whose responses are worth compressing.
fn is_page(method: &Method) -> bool {
    method.kind == Kind::Unary && (method.name.starts_with("List") || method.name.starts_with("BatchGet"))
}

/// True for the services that every server has.
fn is_built_in(method: &Method) -> bool {
    method.service.starts_with("grpc.")
}

fn refuse(failure: Failure) -> Response<Body> {
    Status::from(failure).into_http()
}

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stack").finish_non_exhaustive()
    }
}

/// The stack as hyper calls it for one connection.
#[derive(Debug, Clone)]
pub(super) struct ConnectionStack {
    stack: Stack,
    addresses: TcpConnectInfo,
    identity: Peer,
    leaving: Leaving,
    turns: Turns,
    share: Share,
}

impl hyper::service::Service<Request<Incoming>> for ConnectionStack {
    type Response = Response<Paced>;
    type Error = Infallible;
    // Boxed, so that an open stream holds no more than its body.
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        // Over HTTP/2 calls do not come in turns.
        let turn = (request.version() < Version::HTTP_2).then(|| self.turns.begin());
        let rest = Rest::default();
        // Over HTTP/1.1 hyper reads the rest itself.
        let mut request = request.map(|body| if turn.is_none() { rest.keep(body) } else { Body::new(body) });
        request.extensions_mut().insert(self.addresses.clone());
        request.extensions_mut().insert(self.identity.clone());
        request.extensions_mut().insert(self.leaving.clone());
        request.extensions_mut().insert(self.share.quotas.clone());
        let (answer, settings) = (self.stack.clone().answer(request), self.stack.0.settings.clone());
        Box::pin(async move {
            let response = AssertUnwindSafe(answer).catch_unwind().await.unwrap_or_else(|panic| {
                tracing::error!(cause = panic_text(&*panic), "a layer panicked");
                refuse(panicked(&*panic))
            });
            rest.read().await;
            let is_whole = response.extensions().get::<IsWhole>().is_some();
            let patience = if is_whole { settings.response_timeout } else { settings.stall_timeout };
            Ok(response.map(|body| Paced::new(body, turn, patience)))
        })
    }
}
