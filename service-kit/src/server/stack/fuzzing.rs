//! The entry point of the fuzz target of headers.

#![expect(clippy::expect_used, reason = "a broken law ends the fuzzer")]

use std::time::Duration;

use http::{Request, header};

use super::{content_type, deadline, host, message, origin, request_id::RequestId};

/// Reads a value as each of the headers, and as the beginning of a message.
///
/// # Panics
/// If one is accepted that breaks the contract.
pub fn headers(value: &http::HeaderValue) {
    let names = ["x-request-id", "grpc-timeout", "host", "origin", "content-type"];
    let build = names.iter().fold(Request::post("/"), |request, name| request.header(*name, value));
    let request = build.body(()).expect("a method, a path and values");
    let text = value.to_str().unwrap_or_default();

    let id = RequestId::of(request.headers());
    assert!((1..=64).contains(&id.as_str().len()) && id.to_header() == id.as_str());
    if let Ok(Some(timeout)) = deadline::requested(request.headers()) {
        assert!(timeout <= Duration::from_hours(99_999_999));
        assert!(text.len() <= 9 && text.ends_with(['H', 'M', 'S', 'm', 'u', 'n']));
    }
    let allowed = ["chat.example".parse().expect("a name")];
    if host::check(&request, &allowed).is_ok() {
        assert!(!text.contains('@'), "{text}");
    }
    let origins = ["https://chat.example".parse().expect("an origin")];
    assert_eq!(origin::check(&request, &origins).is_ok(), text == "https://chat.example");
    if content_type::check(&request).is_ok() {
        assert!(
            request.headers()[header::CONTENT_TYPE].as_bytes().to_ascii_lowercase().starts_with(b"application/grpc")
        );
    }
    assert!(u32::try_from(message::announced(value.as_bytes())).is_ok());
}
