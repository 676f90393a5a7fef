//! Which web pages may call over gRPC-Web, and which headers they may send and see.

use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, header};
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::request_id;

/// The time for which a browser may cache the response to a preflight request.
const MAX_AGE: Duration = Duration::from_hours(2);

/// The layer for these origins (`*` for all); none when there are none, and then no CORS header is ever sent.
pub(super) fn layer(origins: &[HeaderValue]) -> Option<CorsLayer> {
    if origins.is_empty() {
        return None;
    }
    let allowed = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(origins.iter().cloned())
    };
    let named = HeaderName::from_static;
    let sent = [
        header::CONTENT_TYPE,
        header::AUTHORIZATION,
        named("x-grpc-web"),
        named("x-user-agent"),
        named("grpc-timeout"),
        request_id::HEADER,
    ];
    // Without these a page learns of no error but "closed without a status".
    let seen = [named("grpc-status"), named("grpc-message"), named("grpc-status-details-bin"), request_id::HEADER];
    let layer = CorsLayer::new().allow_origin(allowed).allow_methods([Method::POST]);
    Some(layer.allow_headers(sent).expose_headers(seen).max_age(MAX_AGE))
}
