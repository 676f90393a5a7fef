//! Browsers and clients like them: gRPC-Web over HTTP/1.1, CORS, `Host`, content types.

use std::fmt::Write;

use http::HeaderValue;
use service_kit::server::Settings;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::{Code, Status};

use crate::{
    raw,
    subject::UNARY,
    support::{Server, reason, settings, start, within},
};

struct Answer {
    status: u16,
    headers: http::HeaderMap,
    body: Vec<u8>,
}

/// Sends a request over HTTP/1.1 on a new connection.
async fn request(server: &Server, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        write!(head, "{name}: {value}\r\n").unwrap();
    }
    head.push_str("\r\n");
    let mut tcp = server.tcp().await;
    tcp.write_all(head.as_bytes()).await.unwrap();
    tcp.write_all(body).await.unwrap();
    let mut answer = Vec::new();
    within(tcp.read_to_end(&mut answer)).await.unwrap();

    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (http::HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap()));
    Answer { status, headers: headers.collect(), body: answer[end + 4..].to_vec() }
}

/// Makes a call over HTTP/1.1 on a connection that stays open, and reads the response to its last chunk.
pub(crate) async fn call_on(tcp: &mut TcpStream, text: &str) -> std::io::Result<Vec<u8>> {
    let body = raw::message(text);
    let head = format!(
        "POST {UNARY} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/grpc-web+proto\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    tcp.write_all(&[head.as_bytes(), &body].concat()).await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n0\r\n\r\n") {
        if within(tcp.read_buf(&mut answer)).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(answer)
}

fn has(answer: &Answer, wanted: &[u8]) -> bool {
    answer.body.windows(wanted.len()).any(|bytes| bytes == wanted)
}

const WEB: (&str, &str) = ("Content-Type", "application/grpc-web+proto");
const HOST: (&str, &str) = ("Host", "localhost");

#[tokio::test]
async fn grpc_web_is_answered_over_http1() {
    let server = start(settings()).await;
    let answer = request(&server, "POST", UNARY, &[HOST, WEB], &raw::message("hello")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["content-type"], "application/grpc-web+proto");
    assert!(answer.headers.contains_key("x-request-id"));
    assert!(has(&answer, &raw::message("you said hello")), "{:?}", answer.body);
    assert!(has(&answer, b"grpc-status:0"), "{:?}", answer.body);
}

#[tokio::test]
async fn grpc_web_text_is_answered_over_http1() {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let server = start(settings()).await;
    let text = [("Content-Type", "application/grpc-web-text"), ("Accept", "application/grpc-web-text"), HOST];
    let body = STANDARD.encode(raw::message("hello"));
    let answer = request(&server, "POST", UNARY, &text, body.as_bytes()).await;
    assert_eq!(answer.headers["content-type"], "application/grpc-web-text+proto");
    assert!(has(&answer, STANDARD.encode(raw::message("you said hello")).as_bytes()), "{:?}", answer.body);
}

#[tokio::test]
async fn an_error_reaches_grpc_web_with_its_details() {
    let server = start(settings()).await;
    let answer = request(&server, "POST", UNARY, &[HOST, WEB], &raw::message("refuse")).await;
    let status = Status::from_header_map(&answer.headers).unwrap();
    assert_eq!((status.code(), reason(&status)), (Code::NotFound, "MESSAGE_NOT_FOUND".to_owned()));
}

#[tokio::test]
async fn other_content_types_and_methods_are_refused_with_a_status() {
    let server = start(settings()).await;
    for (method, content_type, http_status) in [
        ("POST", "text/plain", 415),
        ("POST", "application/json", 415),
        ("POST", "application/x-www-form-urlencoded", 415),
        ("POST", "application/grpc", 415),
        ("GET", "application/grpc-web", 405),
        ("OPTIONS", "application/grpc-web", 405),
    ] {
        let answer = request(&server, method, UNARY, &[HOST, ("Content-Type", content_type)], b"").await;
        assert_eq!(answer.status, http_status, "{method} {content_type}");
        let status = Status::from_header_map(&answer.headers).unwrap();
        assert_eq!(reason(&status), "MALFORMED_REQUEST");
    }
}

#[tokio::test]
async fn a_foreign_host_is_refused_on_loopback_unless_the_check_is_off() {
    let foreign = [("Host", "attacker.example:50051"), WEB];
    let server = start(settings()).await;
    let answer = request(&server, "POST", UNARY, &foreign, &raw::message("hello")).await;
    let status = Status::from_header_map(&answer.headers).unwrap();
    assert_eq!((status.code(), reason(&status)), (Code::PermissionDenied, "HOST_NOT_ALLOWED".to_owned()));

    let server = start(Settings { check_host: false, ..settings() }).await;
    let answer = request(&server, "POST", UNARY, &foreign, &raw::message("hello")).await;
    assert!(has(&answer, b"grpc-status:0"), "{:?}", answer.body);
}

#[tokio::test]
async fn a_page_whose_origin_is_not_allowed_is_refused_by_whichever_host_name_it_calls() {
    // Off as on a listener beyond loopback, where a page reaches the server by a name of its own (DNS rebinding).
    let server = start(Settings { check_host: false, ..settings() }).await;
    let page = "http://evil.example:1";
    for (host, origins) in
        [("evil.example:1", &[page][..]), ("127.0.0.1", &[page]), ("localhost", &["null"]), ("localhost", &["", page])]
    {
        for content_type in ["application/grpc-web+proto", "application/grpc-web-text"] {
            let mut headers = vec![("Host", host), ("Content-Type", content_type)];
            headers.extend(origins.iter().map(|origin| ("Origin", *origin)));
            let answer = request(&server, "POST", UNARY, &headers, &raw::message("hello")).await;
            let status = Status::from_header_map(&answer.headers).unwrap();
            assert_eq!((status.code(), reason(&status)), (Code::PermissionDenied, "ORIGIN_NOT_ALLOWED".to_owned()));
            assert!(status.message().contains("--cors-allow-origin"), "{status:?}");
        }
    }
    let answer = request(&server, "POST", UNARY, &[("Host", "127.0.0.1"), WEB], &raw::message("hello")).await;
    assert!(has(&answer, b"grpc-status:0"), "{:?}", answer.body);
}

#[tokio::test]
async fn a_preflight_is_answered_for_configured_origins_only() {
    // Those of gRPC-Web clients, then those that tracing libraries add to every call of a page.
    const ASKED: &str = "content-type,x-grpc-web,x-user-agent,grpc-timeout,authorization,x-request-id,traceparent,\
                         tracestate,baggage,sentry-trace";
    let allowed = "https://chat.example";
    let server = start(Settings { cors_allow_origins: vec![allowed.parse().unwrap()], ..settings() }).await;
    let preflight = |origin| {
        let headers = [
            HOST,
            ("Origin", origin),
            ("Access-Control-Request-Method", "POST"),
            ("Access-Control-Request-Headers", ASKED),
        ];
        let server = &server;
        async move { request(server, "OPTIONS", UNARY, &headers, b"").await }
    };

    let answer = preflight(allowed).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["access-control-allow-origin"], allowed);
    let may_send = answer.headers["access-control-allow-headers"].to_str().unwrap();
    for name in ASKED.split(',') {
        assert!(may_send.contains(name), "{name} in {may_send}");
    }
    assert!(!preflight("https://other.example").await.headers.contains_key("access-control-allow-origin"));

    let answer = request(&server, "POST", UNARY, &[HOST, WEB, ("Origin", allowed)], &raw::message("hello")).await;
    let exposed = answer.headers["access-control-expose-headers"].to_str().unwrap();
    for name in ["grpc-status", "grpc-message", "grpc-status-details-bin", "x-request-id"] {
        assert!(exposed.contains(name), "{name} in {exposed}");
    }
    assert!(has(&answer, b"grpc-status:0"), "{:?}", answer.body);
}

#[tokio::test]
async fn without_configured_origins_no_cors_header_is_sent() {
    let server = start(settings()).await;
    let headers = [HOST, ("Origin", "https://chat.example"), ("Access-Control-Request-Method", "POST")];
    let answer = request(&server, "OPTIONS", UNARY, &headers, b"").await;
    assert!(answer.headers.keys().all(|name| !name.as_str().starts_with("access-control")), "{:?}", answer.headers);
}
