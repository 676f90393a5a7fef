//! A tiny service without generated code. Its unary and its streaming method do as the text of the request demands.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{Stream, StreamExt, stream};
use http::{Request as HttpRequest, Response as HttpResponse};
use prost::Message;
use prost_types::{FileDescriptorProto, FileDescriptorSet, MethodDescriptorProto, ServiceDescriptorProto};
use service_kit::{
    failure::{Failure, Reason},
    server::{Deadline, MAX_REQUEST_BYTES, Peer, RequestId, note_cause},
};
use tonic::{
    Code, Request, Response, Status,
    body::Body,
    server::{Grpc, NamedService, ServerStreamingService, UnaryService},
};
use tonic_prost::ProstCodec;
use tower::Service;

pub(crate) const UNARY: &str = "/subject.v1.Subject/Unary";
pub(crate) const FLOW: &str = "/subject.v1.Subject/Flow";

/// Frames that floods have produced so far, over all streams of a subject.
pub(crate) type Made = Arc<AtomicUsize>;

#[derive(Clone, Default)]
pub(crate) struct Subject {
    pub(crate) made: Made,
    /// Handlers that hang now.
    pub(crate) hanging: Made,
}

impl NamedService for Subject {
    const NAME: &'static str = "subject.v1.Subject";
}

/// The subject's descriptor set; its one file imports `google/protobuf/wrappers.proto`, which is in the set.
pub(crate) fn descriptors() -> &'static [u8] {
    let method = |name: &str, streams: bool| MethodDescriptorProto {
        name: Some(name.to_owned()),
        input_type: Some(".google.protobuf.StringValue".to_owned()),
        output_type: Some(".google.protobuf.StringValue".to_owned()),
        server_streaming: Some(streams),
        ..Default::default()
    };
    let service = ServiceDescriptorProto {
        name: Some("Subject".to_owned()),
        method: vec![method("Unary", false), method("Flow", true)],
        ..Default::default()
    };
    let subject = FileDescriptorProto {
        name: Some("subject/v1/subject.proto".to_owned()),
        package: Some("subject.v1".to_owned()),
        dependency: vec!["google/protobuf/wrappers.proto".to_owned()],
        service: vec![service],
        syntax: Some("proto3".to_owned()),
        ..Default::default()
    };
    let wrappers = FileDescriptorProto {
        name: Some("google/protobuf/wrappers.proto".to_owned()),
        package: Some("google.protobuf".to_owned()),
        syntax: Some("proto3".to_owned()),
        ..Default::default()
    };
    FileDescriptorSet { file: vec![wrappers, subject] }.encode_to_vec().leak()
}

impl Service<HttpRequest<Body>> for Subject {
    type Response = HttpResponse<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: HttpRequest<Body>) -> Self::Future {
        let subject = self.clone();
        Box::pin(async move {
            let codec: ProstCodec<String, String> = ProstCodec::default();
            let mut grpc = Grpc::new(codec).apply_max_message_size_config(Some(MAX_REQUEST_BYTES), None);
            Ok(match request.uri().path() {
                UNARY => grpc.unary(Unary(subject), request).await,
                FLOW => grpc.server_streaming(Flow(subject), request).await,
                _ => Status::unimplemented("").into_http(),
            })
        })
    }
}

struct Unary(Subject);

impl UnaryService<String> for Unary {
    type Response = String;
    type Future = Pin<Box<dyn Future<Output = Result<Response<String>, Status>> + Send>>;

    fn call(&mut self, request: Request<String>) -> Self::Future {
        let subject = self.0.clone();
        Box::pin(async move {
            let extensions = request.extensions();
            let answer = match request.get_ref().as_str() {
                "panic" => panic!("the handler broke on purpose"),
                "hang" => {
                    let _hanging = Counted::new(&subject.hanging);
                    std::future::pending().await
                }
                "unavailable" => return Err(Failure::database_unavailable().into()),
                "late" => {
                    tokio::time::sleep(Deadline::of(extensions).remaining().unwrap_or_default()).await;
                    return Err(Failure::database_unavailable().into());
                }
                "library error" => return Err(Status::internal("row 7 is broken")),
                "refuse" => {
                    return Err(Failure::of(Reason::MessageNotFound, "no such row").into());
                }
                "deadline" => format!("{:?}", Deadline::of(extensions).remaining().map(|left| left.as_millis())),
                "request id" => RequestId::find(extensions).expect("set by the stack").as_str().to_owned(),
                "peer" => format!("{:?}", request.remote_addr().map(|peer| peer.ip())),
                "client" => Peer::of(extensions)
                    .map_or_else(String::new, |client| format!("{} as {}", client.subject, client.role.name())),
                "large" => "x".repeat(512 * 1024),
                other => format!("you said {other}"),
            };
            Ok(Response::new(answer))
        })
    }
}

struct Flow(Subject);

type Answers = Pin<Box<dyn Stream<Item = Result<String, Status>> + Send>>;

impl ServerStreamingService<String> for Flow {
    type Response = String;
    type ResponseStream = Answers;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Answers>, Status>> + Send>>;

    fn call(&mut self, request: Request<String>) -> Self::Future {
        let first = stream::once(async { Ok("first".to_owned()) });
        let subject = self.0.clone();
        let answers: Answers = match request.get_ref().as_str() {
            "flood" => {
                let counted = Counted::new(&subject.hanging);
                Box::pin(stream::repeat_with(move || {
                    let _open = &counted;
                    subject.made.fetch_add(1, SeqCst);
                    Ok("x".repeat(8 * 1024))
                }))
            }
            "quiet" => Box::pin(first.chain(stream::pending())),
            "tick" => Box::pin(stream::unfold(0_u64, |n| async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                Some((Ok(n.to_string()), n + 1))
            })),
            "panic" => Box::pin(first.chain(stream::once(async { panic!("the stream broke on purpose") }))),
            "fail" => Box::pin(first.chain(stream::once(async {
                let status = Status::from(Failure::internal("row 8 is broken"));
                note_cause(&status);
                Err(status)
            }))),
            "draining" => Box::pin(first.chain(stream::once(async {
                Err(Failure::new(Code::Unavailable, Reason::Draining, "going away").into())
            }))),
            _ => Box::pin(first),
        };
        Box::pin(async { Ok(Response::new(answers)) })
    }
}

/// Counts itself while it lives.
struct Counted(Made);

impl Counted {
    fn new(count: &Made) -> Self {
        count.fetch_add(1, SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}
