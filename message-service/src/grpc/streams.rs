//! Puts the streaming methods of `MessageService` in front of the generated server, whose codec would encode every entry for
//! every subscriber. All other methods go to the generated server.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::Stream;
use parlance::message::v1::StreamMessagesRequest;
use service_kit::server::MAX_REQUEST_BYTES;
use tonic::{
    Request, Response, Status,
    codegen::{Body, Service, http},
    server::{Grpc, NamedService, ServerStreamingService},
};

use super::{frames::FrameCodec, service::Context as Rooms, stream_messages};

/// Items of one stream, encoded.
pub(super) type Frames = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

type Answering<R, E> = Pin<Box<dyn Future<Output = Result<R, E>> + Send>>;

/// `MessageService`, streams included.
#[derive(Clone)]
pub(crate) struct WithStreams<S> {
    unary: S,
    rooms: Rooms,
}

impl<S> WithStreams<S> {
    pub(crate) fn new(unary: S, rooms: Rooms) -> Self {
        Self { unary, rooms }
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

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.unary.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        match request.uri().path() {
            "/parlance.message.v1.MessageService/StreamMessages" => {
                let method = StreamMessages(self.rooms.clone());
                Box::pin(async move {
                    let mut grpc = Grpc::new(FrameCodec::<StreamMessagesRequest>::default())
                        .apply_max_message_size_config(Some(MAX_REQUEST_BYTES), None);
                    Ok(grpc.server_streaming(method, request).await)
                })
            }
            _ => Box::pin(self.unary.call(request)),
        }
    }
}

struct StreamMessages(Rooms);

impl ServerStreamingService<StreamMessagesRequest> for StreamMessages {
    type Response = Bytes;
    type ResponseStream = Frames;
    type Future = Answering<Response<Frames>, Status>;

    fn call(&mut self, request: Request<StreamMessagesRequest>) -> Self::Future {
        let rooms = self.0.clone();
        Box::pin(async move { Ok(stream_messages::answer(&rooms, request).await.map(Response::new)?) })
    }
}
