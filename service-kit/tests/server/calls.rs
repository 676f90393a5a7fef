//! Responses to calls that fail, run late or break.

use std::{sync::atomic::Ordering::SeqCst, task::Poll, time::Duration};

use service_kit::server::Settings;
use tonic::{Code, Request};

use crate::{
    raw::{self, DATA, END_HEADERS, END_STREAM, HEADERS, Peer},
    subject::UNARY,
    support::{eventually, flow, reason, settings, start, unary, unary_of, within},
};

#[tokio::test]
async fn a_call_is_answered_and_carries_its_id_and_peer() {
    let server = start(settings()).await;
    let channel = server.channel().await;
    assert_eq!(unary(&channel, "hello").await.unwrap().into_inner(), "you said hello");
    assert_eq!(unary(&channel, "peer").await.unwrap().into_inner(), "Some(127.0.0.1)");

    let mut request = Request::new("request id".to_owned());
    request.metadata_mut().insert("x-request-id", "mine-1".parse().unwrap());
    let answer = unary_of(&channel, UNARY, request).await.unwrap();
    assert_eq!(answer.metadata().get("x-request-id").unwrap(), "mine-1");
    assert_eq!(answer.into_inner(), "mine-1");

    let answer = unary(&channel, "request id").await.unwrap();
    let made = answer.metadata().get("x-request-id").unwrap().to_str().unwrap().to_owned();
    assert_eq!(made, answer.into_inner());
}

#[tokio::test]
async fn an_error_keeps_its_details_and_carries_the_id() {
    let server = start(settings()).await;
    let refusal = unary(&server.channel().await, "refuse").await.unwrap_err();
    assert_eq!((refusal.code(), reason(&refusal)), (Code::NotFound, "MESSAGE_NOT_FOUND".to_owned()));
    assert_eq!(refusal.message(), "no such row");
    assert!(refusal.metadata().contains_key("x-request-id"));
}

#[tokio::test]
async fn an_error_of_a_library_reveals_no_internals() {
    let server = start(settings()).await;
    let refusal = unary(&server.channel().await, "library error").await.unwrap_err();
    assert_eq!((refusal.code(), reason(&refusal)), (Code::Internal, "INTERNAL".to_owned()));
    assert_eq!(refusal.message(), "internal error");
}

#[tokio::test]
async fn an_unknown_method_or_service_is_unimplemented() {
    let server = start(settings()).await;
    let channel = server.channel().await;
    for path in ["/subject.v1.Subject/Nothing", "/no.such.Service/Unary", "/grpc.health.v1.Health/Nothing", "/"] {
        let refusal = unary_of(&channel, path, Request::new(String::new())).await.unwrap_err();
        assert_eq!((refusal.code(), reason(&refusal)), (Code::Unimplemented, "UNIMPLEMENTED".to_owned()), "{path}");
    }
}

#[tokio::test]
async fn a_panic_is_an_internal_error_and_the_connection_survives() {
    let server = start(settings()).await;
    let channel = server.channel().await;
    let mut neighbour = flow(&channel, Request::new("tick".to_owned())).await.unwrap();
    let refusal = within(unary(&channel, "panic")).await.unwrap_err();
    assert_eq!((refusal.code(), reason(&refusal)), (Code::Internal, "INTERNAL".to_owned()));
    assert_eq!(refusal.message(), "internal error");
    assert!(within(neighbour.message()).await.unwrap().is_some());
}

#[tokio::test]
async fn a_panic_in_a_stream_is_an_internal_error_after_the_items_sent() {
    let server = start(settings()).await;
    let mut stream = flow(&server.channel().await, Request::new("panic".to_owned())).await.unwrap();
    let mut seen = Vec::new();
    let refusal = loop {
        match within(stream.message()).await {
            Ok(Some(item)) => seen.push(item),
            Ok(None) => panic!("ended well after {seen:?}"),
            Err(status) => break status,
        }
    };
    assert_eq!((refusal.code(), reason(&refusal)), (Code::Internal, "INTERNAL".to_owned()));
    assert_eq!(refusal.message(), "internal error");
}

#[tokio::test]
async fn a_stream_that_fails_ends_with_its_status() {
    let server = start(settings()).await;
    let channel = server.channel().await;
    for (text, code, wanted) in [("fail", Code::Internal, "INTERNAL"), ("draining", Code::Unavailable, "DRAINING")] {
        let mut stream = flow(&channel, Request::new(text.to_owned())).await.unwrap();
        assert_eq!(within(stream.message()).await.unwrap().as_deref(), Some("first"));
        let refusal = within(stream.message()).await.unwrap_err();
        assert_eq!((refusal.code(), reason(&refusal)), (code, wanted.to_owned()));
    }
}

#[tokio::test]
async fn the_callers_deadline_ends_a_unary_call_and_reaches_the_handler() {
    let server = start(settings()).await;
    // Not tonic's client, which would end the call at its own deadline.
    let client = h2_client(&server).await;
    let refusal = client.call(UNARY, &[("grpc-timeout", "50m")], &raw::message("hang")).await;
    assert_eq!((refusal.code(), reason(&refusal)), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED".to_owned()));
    eventually(|| server.subject.hanging.load(SeqCst), |hanging| *hanging == 0).await;

    let mut request = Request::new("deadline".to_owned());
    request.set_timeout(Duration::from_secs(7));
    let left = unary_of(&server.channel().await, UNARY, request).await.unwrap().into_inner();
    let left: u64 = left.trim_start_matches("Some(").trim_end_matches(')').parse().unwrap();
    assert!((5_000..=7_000).contains(&left), "{left} ms left");
}

#[tokio::test]
async fn a_call_whose_deadline_has_passed_fails_for_that_reason_alone() {
    let server = start(settings()).await;
    let client = h2_client(&server).await;
    // The handler fails at once, or because no time is left for what it waits for.
    for (timeout, text) in [("1n", "unavailable"), ("1n", "late"), ("50m", "late")] {
        let headers = [("grpc-timeout", timeout)];
        let grpc = client.call(UNARY, &headers, &raw::message(text)).await;
        let web = [headers[0], ("content-type", "application/grpc-web+proto")];
        let web = client.call(UNARY, &web, &raw::message(text)).await;
        for refusal in [grpc, web] {
            assert_eq!((refusal.code(), reason(&refusal)), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED".to_owned()));
        }
    }
    let before = client.call(UNARY, &[("grpc-timeout", "1M")], &raw::message("unavailable")).await;
    assert_eq!((before.code(), reason(&before)), (Code::Unavailable, "DATABASE_UNAVAILABLE".to_owned()));
}

#[tokio::test]
async fn the_deadline_of_a_unary_call_has_an_upper_bound() {
    let server = start(settings()).await;
    let mut request = Request::new("deadline".to_owned());
    request.metadata_mut().insert("grpc-timeout", "99999999H".parse().unwrap());
    let left = unary_of(&server.channel().await, UNARY, request).await.unwrap().into_inner();
    let left: u64 = left.trim_start_matches("Some(").trim_end_matches(')').parse().unwrap();
    assert!(left <= 5 * 60 * 1_000, "{left} ms left");
}

#[tokio::test]
async fn the_message_of_a_unary_call_must_arrive_in_time() {
    let server = start(Settings { request_timeout: Duration::from_millis(100), ..settings() }).await;
    let mut peer = Peer::greet(server.tcp().await, &[]).await;
    peer.send(HEADERS, END_HEADERS, 1, &raw::request_headers(UNARY, &[("grpc-timeout", "1H")])).await.unwrap();
    peer.send(DATA, 0, 1, &raw::message("hello")[..7]).await.unwrap();
    let head = peer.next_of(HEADERS).await.expect("an answer, and no close");
    assert_ne!(head.flags & END_STREAM, 0, "trailers alone, which carry the error");
    server.assert_lives().await;
}

#[tokio::test]
async fn a_unary_call_without_a_deadline_gets_the_default() {
    let server = start(Settings { default_deadline: Duration::from_millis(100), ..settings() }).await;
    let refusal = within(unary(&server.channel().await, "hang")).await.unwrap_err();
    assert_eq!((refusal.code(), reason(&refusal)), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED".to_owned()));
}

#[tokio::test]
async fn a_stream_has_a_deadline_only_if_the_caller_sets_one() {
    let server = start(Settings { default_deadline: Duration::from_millis(100), ..settings() }).await;
    let mut ticks = flow(&server.channel().await, Request::new("tick".to_owned())).await.unwrap();
    for _ in 0..20 {
        within(ticks.message()).await.unwrap().unwrap();
    }

    let mut peer = Peer::greet(server.tcp().await, &[]).await;
    let headers = raw::request_headers(crate::subject::FLOW, &[("grpc-timeout", "100m")]);
    peer.send(HEADERS, END_HEADERS, 1, &headers).await.unwrap();
    peer.send(DATA, END_STREAM, 1, &raw::message("quiet")).await.unwrap();
    let mut kinds = Vec::new();
    loop {
        let frame = peer.next().await.expect("the connection lives");
        if frame.stream == 1 {
            kinds.push(frame.kind);
            if frame.flags & END_STREAM != 0 {
                break;
            }
        }
    }
    assert_eq!(kinds, [HEADERS, DATA, HEADERS], "head, one message, trailers");
}

#[tokio::test]
async fn a_malformed_request_is_the_callers_fault() {
    let server = start(settings()).await;
    let channel = h2_client(&server).await;
    for (what, headers, body) in [
        ("not protobuf", &[][..], &[0, 0, 0, 0, 2, 0xff, 0xff][..]),
        ("half a message", &[], &[0, 0, 0, 0, 9, 1]),
        ("no message", &[], &[]),
        ("an unknown compression", &[], &[1, 0, 0, 0, 0]),
        ("a broken deadline", &[("grpc-timeout", "soon")], &raw::message("hello")),
    ] {
        let status = channel.call(UNARY, headers, body).await;
        assert_eq!((status.code(), reason(&status)), (Code::InvalidArgument, "MALFORMED_REQUEST".to_owned()), "{what}");
    }
    server.assert_lives().await;
}

/// A bare HTTP/2 client, for bodies that tonic's would not send.
struct H2(h2::client::SendRequest<bytes::Bytes>);

async fn h2_client(server: &crate::support::Server) -> H2 {
    let (client, connection) = h2::client::handshake(server.tcp().await).await.unwrap();
    tokio::spawn(connection);
    H2(client)
}

impl H2 {
    async fn call(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> tonic::Status {
        let request = http::Request::post(format!("http://localhost{path}"));
        let typed = headers.iter().any(|(name, _)| *name == "content-type");
        let request = if typed { request } else { request.header("content-type", "application/grpc") };
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let mut client = self.0.clone().ready().await.unwrap();
        let (response, mut send) = client.send_request(request.body(()).unwrap(), false).unwrap();
        send.send_data(bytes::Bytes::copy_from_slice(body), true).unwrap();
        let response = within(response).await.unwrap();
        tonic::Status::from_header_map(response.headers()).expect("an error in the head")
    }
}

/// Some proxies often lose a response that is followed by a reset.
#[tokio::test]
async fn an_early_refusal_is_not_followed_by_a_reset() {
    let server = start(settings()).await;
    let client = h2_client(&server).await;
    // The end of the request comes after the server has seen its head, and in time, unless this machine is slow.
    for _ in 0..10 {
        let mut refused = client.0.clone().ready().await.unwrap();
        let request = http::Request::post("http://localhost/nothing").header("content-type", "application/grpc");
        let (response, mut send) = refused.send_request(request.body(()).unwrap(), false).unwrap();
        client.call("/nothing", &[], &[]).await;
        let ended = send.send_data(bytes::Bytes::from(raw::message("hello")), true);
        let response = within(response).await.unwrap();
        let status = tonic::Status::from_header_map(response.headers()).expect("an error in the head");
        assert_eq!(status.code(), Code::Unimplemented);
        // A reset comes right after the response, so before the next one.
        client.call("/nothing", &[], &[]).await;
        let reset = std::future::poll_fn(|cx| Poll::Ready(send.poll_reset(cx).is_ready())).await;
        if ended.is_ok() && !reset {
            return;
        }
    }
    panic!("each refusal was followed by a reset");
}
