//! Puts the streaming methods of `MessageService` in front of the generated server, whose codec would encode every entry for
//! every subscriber. All other methods go to the generated server.

use std::{
    convert::Infallible,
    future::{Future, Ready, ready},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::Stream;
use parlance::message::v1::{ChatRequest, StreamMessagesRequest, SubscribeRequest};
use prost::Message;
use service_kit::{failure::Failure, server::MAX_REQUEST_BYTES};
use tonic::{
    Request, Response, Status, Streaming,
    codegen::{Body, Service, http},
    server::{Grpc, NamedService, ServerStreamingService, StreamingService},
};

use super::{
    chat, context::Context as ServiceContext, frames::FrameCodec, outgoing::Outgoing, stream_messages, subscribe,
};

/// Items of one stream, encoded.
pub(super) type Frames = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

type Answering<R, E> = Pin<Box<dyn Future<Output = Result<R, E>> + Send>>;

/// `MessageService`, streams included.
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
    type Future = Answering<Self::Response, Infallible>;

    fn poll_ready(&mut self, task: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.unary.poll_ready(task)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        match request.uri().path() {
            "/parlance.message.v1.MessageService/StreamMessages" => {
                let answer =
                    |context: ServiceContext, request| async move { stream_messages::answer(&context, request).await };
                let method = ToClient { context: self.context.clone(), answer };
                Box::pin(async move { Ok(grpc::<StreamMessagesRequest>().server_streaming(method, request).await) })
            }
            "/parlance.message.v1.MessageService/Subscribe" => {
                let answer =
                    |context: ServiceContext, request| async move { subscribe::answer(&context, request).await };
                let method = ToClient { context: self.context.clone(), answer };
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

    // Answered before the first frame: a client may wait for that before it sends one.
    fn call(&mut self, request: Request<Streaming<ChatRequest>>) -> Self::Future {
        ready(Ok(Response::new(chat::answer(&self.0, request))))
    }
}

fn grpc<R: Message + Default + Send + 'static>() -> Grpc<FrameCodec<R>> {
    Grpc::new(FrameCodec::default()).apply_max_message_size_config(Some(MAX_REQUEST_BYTES), None)
}

/// One of the methods that stream to the client and take one request.
struct ToClient<A> {
    context: ServiceContext,
    answer: A,
}

impl<R, A, F> ServerStreamingService<R> for ToClient<A>
where
    R: Send + 'static,
    A: Fn(ServiceContext, Request<R>) -> F,
    F: Future<Output = Result<Outgoing, Failure>> + Send + 'static,
{
    type Response = Bytes;
    type ResponseStream = Frames;
    type Future = Answering<Response<Frames>, Status>;

    fn call(&mut self, request: Request<R>) -> Self::Future {
        let answer = (self.answer)(self.context.clone(), request);
        Box::pin(async move { Ok(answer.await.map(|outgoing| Response::new(outgoing.into_stream()))?) })
    }
}
