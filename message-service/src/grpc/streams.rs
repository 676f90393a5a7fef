//! Serves the streaming methods of `MessageService`. The codec of the generated server would encode every entry for every
//! subscriber; it serves all other methods.

use std::{
    convert::Infallible,
    future::{Future, Ready, ready},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use parlance::message::v1::{ChatRequest, StreamMessagesRequest, SubscribeRequest};
use prost::Message;
use service_kit::{
    failure::Failure,
    server::{CompressionEncoding, MAX_REQUEST_BYTES},
};
use tonic::{
    Request, Response, Status, Streaming,
    codegen::{Body, Service, http},
    server::{Grpc, NamedService, ServerStreamingService, StreamingService},
};

use super::{
    chat,
    context::Context as ServiceContext,
    frames::{FrameCodec, Frames},
    outgoing::Outgoing,
    rules::{NamesActor, acting},
    stream_messages, subscribe,
};

type ResponseFuture<R, E> = Pin<Box<dyn Future<Output = Result<R, E>> + Send>>;

/// `MessageService`, including its streams.
#[derive(Clone)]
pub(crate) struct WithStreams<S> {
    unary: S,
    context: ServiceContext,
}

impl<S> WithStreams<S> {
    pub(crate) fn new(unary: S, context: ServiceContext) -> Self {
        Self { unary, context }
    }
}

impl<S: NamedService> NamedService for WithStreams<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, B> Service<http::Request<B>> for WithStreams<S>
where
    S: Service<http::Request<B>, Response = http::Response<tonic::body::Body>, Error = Infallible>,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
{
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = ResponseFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, task: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.unary.poll_ready(task)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        match request.uri().path() {
            "/parlance.message.v1.MessageService/StreamMessages" => {
                let handler =
                    |context: ServiceContext, request| async move { stream_messages::answer(&context, request).await };
                let method = ServerStream { context: self.context.clone(), handler };
                Box::pin(async move { Ok(grpc::<StreamMessagesRequest>().server_streaming(method, request).await) })
            }
            "/parlance.message.v1.MessageService/Subscribe" => {
                let handler =
                    |context: ServiceContext, request| async move { subscribe::answer(&context, request).await };
                let method = ServerStream { context: self.context.clone(), handler };
                Box::pin(async move { Ok(grpc::<SubscribeRequest>().server_streaming(method, request).await) })
            }
            "/parlance.message.v1.MessageService/Chat" => {
                let method = Chat(self.context.clone());
                Box::pin(async move { Ok(grpc::<ChatRequest>().streaming(method, request).await) })
            }
            _ => Box::pin(self.unary.call(request)),
        }
    }
}

struct Chat(ServiceContext);

impl StreamingService<ChatRequest> for Chat {
    type Response = Bytes;
    type ResponseStream = Frames;
    type Future = Ready<Result<Response<Frames>, Status>>;

    // Responds before the first frame: a client may wait for the headers before it sends one.
    fn call(&mut self, request: Request<Streaming<ChatRequest>>) -> Self::Future {
        ready(Ok(Response::new(chat::answer(&self.0, request))))
    }
}

/// Requests may be compressed; responses never are, since all subscribers share their bytes.
fn grpc<R: Message + Default + Send + 'static>() -> Grpc<FrameCodec<R>> {
    Grpc::new(FrameCodec::default())
        .apply_max_message_size_config(Some(MAX_REQUEST_BYTES), None)
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Zstd)
}

/// A method with one request and a stream of responses.
struct ServerStream<H> {
    context: ServiceContext,
    handler: H,
}

impl<R, H, F> ServerStreamingService<R> for ServerStream<H>
where
    R: NamesActor + Send + 'static,
    H: Fn(ServiceContext, Request<R>) -> F,
    F: Future<Output = Result<Outgoing, Failure>> + Send + 'static,
{
    type Response = Bytes;
    type ResponseStream = Frames;
    type Future = ResponseFuture<Response<Frames>, Status>;

    fn call(&mut self, request: Request<R>) -> Self::Future {
        let outgoing = acting(request).map(|request| (self.handler)(self.context.clone(), request));
        Box::pin(async move { Ok(outgoing?.await.map(|outgoing| Response::new(outgoing.into_stream()))?) })
    }
}
