//! Lets in nothing but gRPC over HTTP/2 and gRPC-Web. Neither tonic nor tonic-web checks, and a browser may send any
//! other type across origins without a preflight request.

use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header};
use tonic::{Status, body::Body};

use crate::failure::{Failure, Reason};

/// The framing of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// Length-prefixed messages and trailers over HTTP/2.
    Grpc,
    /// The same with trailers in the body, over any HTTP.
    GrpcWeb,
}

/// Returns the protocol of a request, or a response with 405 or 415 and a gRPC status for clients that expect one.
pub(super) fn check<B>(request: &Request<B>) -> Result<Protocol, Response<Body>> {
    if request.method() != Method::POST {
        let mut refusal = refuse(StatusCode::METHOD_NOT_ALLOWED, "a call is a POST");
        refusal.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
        return Err(refusal);
    }
    let given = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match given {
        // Exactly these, since tonic-web knows no others.
        "application/grpc-web"
        | "application/grpc-web+proto"
        | "application/grpc-web-text"
        | "application/grpc-web-text+proto" => Ok(Protocol::GrpcWeb),
        _ if is_grpc(given) && request.version() == Version::HTTP_2 => Ok(Protocol::Grpc),
        _ if is_grpc(given) => Err(refuse(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "application/grpc needs HTTP/2; HTTP/1.1 carries application/grpc-web",
        )),
        _ => Err(refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the content type is neither gRPC nor gRPC-Web")),
    }
}

/// `application/grpc`, with a message format or parameters.
fn is_grpc(content_type: &str) -> bool {
    let rest =
        content_type.get(.."application/grpc".len()).filter(|start| start.eq_ignore_ascii_case("application/grpc"));
    rest.is_some_and(|start| matches!(content_type.as_bytes().get(start.len()), None | Some(b'+' | b';' | b' ')))
}

fn refuse(http_status: StatusCode, message: &str) -> Response<Body> {
    tracing::debug!(%http_status, message, "request refused");
    let failure = Failure::of(Reason::MalformedRequest, message);
    let mut refusal = Status::from(failure).into_http();
    *refusal.status_mut() = http_status;
    refusal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_grpc_is_grpc() {
        for yes in ["application/grpc", "application/grpc+proto", "Application/gRPC; charset=utf-8"] {
            assert!(is_grpc(yes), "{yes}");
        }
        for no in ["", "text/plain", "application/grpcx", "application/grpc-web", "application/json"] {
            assert!(!is_grpc(no), "{no}");
        }
    }
}
